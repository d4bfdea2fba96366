"""Measuring: our models, the JPEG itself, and what other tools made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image, ImageFilter

from codiff_batch.models.card import read_card
from tests.tiny_model import make_tiny_model
from training import documents, evaluate, patterns


def run(*arguments: object) -> str:
    result = CliRunner().invoke(evaluate.main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_another_tools_pictures_are_measured_beside_ours(tmp_path: Path, lossless: Path) -> None:
    model, jpegs, other = make_tiny_model(tmp_path / "models/tiny"), tmp_path / "jpegs", tmp_path / "blurred"
    run("--photos", lossless, "--model", "none", "--qf", 10, "--write-jpegs", jpegs)
    assert sorted(path.name for path in jpegs.iterdir()) == ["photo0_q10.jpg", "photo1_q10.jpg"]
    other.mkdir()
    for path in jpegs.iterdir():
        Image.open(path).filter(ImageFilter.GaussianBlur(1)).save(other / f"{path.stem}.png")
    scores = tmp_path / "scores.json"
    output = run(
        "--photos", lossless, "--model", model, "--qf", 10, "--written", other, "--published", "--json", scores
    )
    assert [line.split("|")[1].strip() for line in output.splitlines()[2:]] == [
        "jpeg",
        "tiny",
        "blurred",
        "FBCNN (published)",
        "CODiff (paper)",
    ]
    told = {(score["photo"], score["model"]): score["psnr"] for score in json.loads(scores.read_text())}
    assert len(told) == 6
    assert told["photo0", "blurred"] != told["photo0", "jpeg"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "kinds"),
    [("--patterns", patterns.KINDS), ("--documents", documents.KINDS)],
    ids=["patterns", "documents"],
)
def test_drawn_pictures_are_measured_where_there_are_no_photos(
    tmp_path: Path, option: str, kinds: Mapping[str, object]
) -> None:
    model, scores = make_tiny_model(tmp_path / "models/tiny"), tmp_path / "scores.json"
    run(option, 1, "--model", model, "--qf", 90, "--json", scores, "--record", "drawn")
    assert "gain" in read_card(model).scores["drawn"]["by_qf"]["90"]
    measured = [score["photo"].split("_")[0] for score in json.loads(scores.read_text()) if score["model"] == "jpeg"]
    assert measured == list(kinds)
    result = CliRunner().invoke(evaluate.main, ["--model", str(model)])
    assert result.exit_code == 2
    assert "--photos DIR, --patterns N, --documents N" in result.output


def test_a_picture_that_is_missing_is_named(tmp_path: Path, lossless: Path) -> None:
    result = CliRunner().invoke(
        evaluate.main, ["--photos", str(lossless), "--model", "none", "--qf", "10", "--written", str(tmp_path)]
    )
    assert result.exit_code == 2
    assert "photo0_q10" in result.output


def test_metrics_of_pyiqa_judge_a_picture_alone_or_beside_its_original(tmp_path: Path, lossless: Path) -> None:
    pytest.importorskip("pyiqa", reason="pyiqa or a torchvision that fits is not installed", exc_type=Exception)
    scores = tmp_path / "scores.json"
    metrics = ("--metric", "gmsd", "--metric", "entropy")
    run("--photos", lossless, "--model", "none", "--qf", 10, "--qf", 60, *metrics, "--json", scores)
    told = {(score["photo"], score["qf"]): score["others"] for score in json.loads(scores.read_text())}
    assert told["photo0", 60]["gmsd"] < told["photo0", 10]["gmsd"]
    assert 0 < told["photo0", 60]["entropy"] <= 8


@pytest.mark.parametrize("option", ["--outside", "--metric"])
def test_what_needs_another_package_says_so_in_a_line(tmp_path: Path, lossless: Path, option: str) -> None:
    (tmp_path / "unknown.pth").write_bytes(b"no network")
    value = str(tmp_path / "unknown.pth") if option == "--outside" else "no-such-metric"
    result = CliRunner().invoke(evaluate.main, ["--photos", str(lossless), "--model", "none", option, value])
    assert result.exit_code == 2
    assert option in result.output
