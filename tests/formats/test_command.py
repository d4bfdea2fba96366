"""Formats from the command line: what is written, and what is refused before any work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codiff_batch.jpeg import JpegPhoto, Segment
from tests.jpeg.samples import jpeg, picture, with_segments
from tests.photos import write
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "suffix"), [("avif", ".avif"), ("png", ".png"), ("tiff", ".tif")])
def test_photos_are_written_in_the_format_asked_for(run, tmp_path: Path, model: Path, name: str, suffix: str) -> None:
    write(tmp_path / "p/a.jpg", jpeg(quality=20))
    assert run(tmp_path / "p", "--model", model, "--format", name).code == 0
    with Image.open(tmp_path / f"p-restored/a{suffix}") as image:
        assert image.size == (104, 72)
    assert "0 restored, 1 skipped" in run(tmp_path / "p", "--model", model, "--format", name).err


@pytest.mark.slow
@pytest.mark.parametrize("command", [("--dry-run",), ()])
def test_what_cannot_be_written_fails_the_same_in_a_dry_run(
    run, tmp_path: Path, model: Path, command: tuple[str, ...]
) -> None:
    index = Segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff")
    write(tmp_path / "p/index.jpg", with_segments(jpeg(quality=20), index))
    write(tmp_path / "p/wide.jpg", jpeg(np.zeros((8, 16400, 3), np.uint8), quality=20))
    report = tmp_path / "r.json"
    ran = run(tmp_path / "p", "--model", model, "--format", "webp", "--report", report, *command)
    reasons = {Path(row["source"]).name: row["reason"] for row in json.loads(report.read_text())}
    assert ran.code == 3
    assert reasons["wide.jpg"] == "cannot be written as WebP: more than 16383 pixels on a side"
    ran = run(tmp_path / "p/index.jpg", "-o", tmp_path / "o", "--model", model, "--report", report, *command)
    assert ran.code == 3
    assert "multi-picture" in json.loads(report.read_text())[0]["reason"]


def test_inspect_refuses_what_the_writer_would_refuse(run, tmp_path: Path, model: Path) -> None:
    path = write(tmp_path / "a.jpg", with_segments(jpeg(quality=20), Segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff")))
    ran = run("inspect", path, "--json", "--model", model)
    assert ran.code == 3
    (row,) = json.loads(ran.out)
    assert row["verdict"] == "refuse" and "multi-picture" in row["reason"]


@pytest.mark.slow
def test_an_output_saved_again_is_judged_like_any_photo(run, tmp_path: Path, model: Path) -> None:
    write(tmp_path / "p/a.jpg", jpeg(picture(), quality=20))
    run(tmp_path / "p", "--model", model)
    output = JpegPhoto.open(tmp_path / "p-restored/a.jpg")
    note = next(s.payload for s in output.structure.segments if s.marker == 0xFE)
    write(tmp_path / "q/again.jpg", jpeg(output.pixels(), quality=8, subsampling=0, comment=note))
    write(tmp_path / "q/same.jpg", output.data)
    ran = run(tmp_path / "q", "--model", model, "-v")
    assert "1 restored, 1 skipped" in ran.err
    assert "restored before" in ran.err
