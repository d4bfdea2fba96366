"""Everything a folder may hold: torn, hostile and oddly named files. An outcome each, and the others are done."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_restore import tree
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model

CORPUS = Path(__file__).resolve().parents[3] / "shared/data/jpeg-corpus"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.slow
def test_a_file_that_was_cut_anywhere_fails_with_its_reason(run, tmp_path: Path, model: Path) -> None:
    whole = jpeg(20, progressive=True, comment=b"x" * 40)
    for percent in range(100):
        write(tmp_path / f"p/{percent:02}.jpg", whole[: len(whole) * percent // 100])
    write(tmp_path / "p/whole.jpg", whole)
    ran = run(tmp_path / "p", "--model", model, "--report", tmp_path / "r.json")
    assert ran.code == 3
    assert "1 restored, 0 skipped, 100 failed" in ran.err
    assert "unexpected" not in ran.err
    records = json.loads((tmp_path / "r.json").read_text())
    assert all(record["reason"] for record in records)


@pytest.mark.slow
def test_garbage_and_bombs_fail_quickly(run, tmp_path: Path, model: Path) -> None:
    rng = np.random.default_rng(0)
    whole = bytearray(jpeg(20))
    size = whole.index(b"\xff\xc0") + 5
    whole[size : size + 4] = b"\xff\xdc\xff\xdc"  # 65,500 x 65,500
    write(tmp_path / "p/bomb.jpg", bytes(whole))
    write(tmp_path / "p/noise.jpg", rng.bytes(5000))
    write(tmp_path / "p/start.jpg", b"\xff\xd8" + rng.bytes(5000))
    write(tmp_path / "p/zeros.jpg", bytes(5000))
    write(tmp_path / "p/text.jpg", b"<html>404</html>")
    write(tmp_path / "p/tall.jpg", jpeg(20, image=Image.new("RGB", (1, 2000))))
    ran = run(tmp_path / "p", "--model", model)
    assert ran.code == 3
    assert "1 restored, 0 skipped, 5 failed" in ran.err
    assert "over the limit of 200 megapixels" in ran.err


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of odd JPEGs is not here")
def test_every_file_of_the_corpus_has_an_outcome_and_stays_as_it_is(run, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "tiny", tile=512)
    files = [path for path in sorted(CORPUS.rglob("*")) if path.is_file()]
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in files}
    ran = run(
        CORPUS, "-o", tmp_path / "out", "--model", model, "--max-megapixels", 0.5, "--report", tmp_path / "r.json"
    )
    assert ran.code == 3
    assert "Traceback" not in ran.err
    records = json.loads((tmp_path / "r.json").read_text())
    assert len(records) > 300
    assert {record["outcome"] for record in records} == {"restored", "skipped", "failed"}
    assert not [record for record in records if "unexpected" in record["reason"]]
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in files} == before
    for record in records:
        if record["outcome"] == "restored":
            with Image.open(record["output"]) as image:
                image.load()


NAMES = [
    b"new\nline.jpg", b"\x1b[31mred.jpg", b"\xff\xfe.jpg", b"-rf.jpg", b"--model.jpg", b" lead and trail .jpg",
    b"n" * 251 + b".jpg", "é.jpg".encode(), "e\N{COMBINING ACUTE ACCENT}.jpg".encode(), b"A.jpg", b"a.jpg",
    "\N{CAMERA}.jpg".encode(), b"%s{0}$(x).jpg", b"<script>.jpg",
]  # fmt: skip


@pytest.mark.slow
def test_names_of_every_kind_are_restored_and_reported_a_line_each(run, tmp_path: Path, model: Path) -> None:
    for index, name in enumerate(NAMES):
        write(Path(os.fsdecode(os.fsencode(tmp_path / "p") + b"/" + name)), jpeg(20, image=scene(seed=index)))
    ran = run(tmp_path / "p", "--model", model, "-v", "--report", tmp_path / "r.json")
    assert ran.code == 0
    assert f"{len(NAMES)} restored, 0 skipped, 0 failed" in ran.err
    assert sum(line.startswith("restored: ") for line in ran.err.splitlines()) == len(NAMES)
    assert "\x1b" not in ran.err
    assert {os.fsencode(name) for name in tree(tmp_path / "p-restored")} == set(NAMES)
    reported = json.loads((tmp_path / "r.json").read_text())
    assert {os.fsencode(Path(record["source"]).name) for record in reported} == set(NAMES)
    assert "0 restored" in run(tmp_path / "p", "--model", model).err


@pytest.mark.slow
def test_times_in_the_future_and_the_distant_past_are_kept(run, tmp_path: Path, model: Path) -> None:
    for name, time in (("future", 4_000_000_000_000_000_123), ("past", 1_000_000_001)):
        os.utime(write(tmp_path / f"p/{name}.jpg", jpeg(20)), ns=(time, time))
    run(tmp_path / "p", "--model", model)
    for name in ("future", "past"):
        source, output = (tmp_path / folder / f"{name}.jpg" for folder in ("p", "p-restored"))
        assert output.stat().st_mtime_ns == source.stat().st_mtime_ns
    assert "0 restored, 2 skipped" in run(tmp_path / "p", "--model", model).err


@pytest.mark.slow
def test_a_dry_run_leaves_the_whole_tree_as_it_is(run, tmp_path: Path, model: Path) -> None:
    write(tmp_path / "p/a.jpg", jpeg(20))
    write(tmp_path / "p/b.jpg", jpeg(95))
    run(tmp_path / "p", "--model", model)

    def everything() -> dict[str, tuple[object, ...]]:
        return {
            str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
            for path in tmp_path.rglob("*")
        }

    before = everything()
    for arguments in ((), ("--overwrite",), ("--in-place", "--backup", tmp_path / "kept"), ("--copy-skipped",)):
        assert run(tmp_path / "p", "--model", model, "--dry-run", *arguments).code == 0
    assert everything() == before


class Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("touch /tmp/codiff-batch-was-here",))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "../weights.safetensors"])
def test_weights_that_are_pickles_or_changed_are_refused(run, tmp_path: Path, name: str) -> None:
    model = make_tiny_model(tmp_path / "mine")
    data = pickle.dumps(Payload())
    (model / name).write_bytes(data)
    card = json.loads((model / "model.json").read_text())
    card["files"] = {name: hashlib.sha256(data).hexdigest()}
    (model / "model.json").write_text(json.dumps(card))
    write(tmp_path / "p/a.jpg", jpeg(20))
    ran = run(tmp_path / "p", "--model", model)
    assert ran.code == 4
    assert ran.err.startswith("codiff-batch: error: ")
    assert not Path("/tmp/codiff-batch-was-here").exists()


def test_an_output_is_never_a_source_again(run, tmp_path: Path, model: Path) -> None:
    write(tmp_path / "p/a.jpg", jpeg(20))
    run(tmp_path / "p", "--model", model)
    ran = run(tmp_path / "p-restored", "--model", model)
    assert ran.code == 2
    assert "holds outputs of earlier runs" in ran.err
    write(tmp_path / "q/a.jpg", (tmp_path / "p-restored/a.jpg").read_bytes())
    assert "0 restored, 1 skipped" in run(tmp_path / "q", "--model", model).err
    with Image.open(BytesIO((tmp_path / "p-restored/a.jpg").read_bytes())) as image:
        assert image.info["comment"].startswith(b"codiff-batch")


def test_an_error_about_an_odd_name_is_one_line_that_any_terminal_can_take(run, tmp_path: Path) -> None:
    odd = tmp_path / "line\nbreak\x1b[31m\udcff"
    odd.mkdir()
    ran = run("status", odd)
    assert ran.code != 0
    assert ran.err.count("\n") == 1
    assert "\x1b" not in ran.err
