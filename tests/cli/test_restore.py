"""Restoring from the command line: real files, the real program, the bundled model."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codiff_batch import formats
from codiff_batch.batch import outputs
from codiff_batch.batch.marks import Holds, claim
from codiff_batch.engine import Restorer, restore_photo
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.jpeg.pillow_pixels import PillowPixels
from codiff_batch.settings import Settings
from tests.photos import jpeg, scene, write

COLUMNS = [
    "source", "output", "outcome", "reason", "code", "header_qf", "estimated_qf", "width", "height", "model", "seconds",
]  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a crushed photo, a fine one, and one that was crushed and saved again."""
    folder = tmp_path / "photos"
    write(folder / "trip/crushed.jpg", jpeg(12, image=scene(112, 96)))
    write(folder / "fine.jpg", jpeg(97, subsampling=0, image=fine_scene()))
    again = Image.open(BytesIO(jpeg(10, image=scene(112, 96, seed=1))))
    write(folder / "again.jpg", jpeg(95, image=again, subsampling=0))
    return folder


def fine_scene() -> Image.Image:
    """The shipped example that is good already."""
    return Image.open(Path(__file__).resolve().parents[2] / "examples/photos/strudel-fine-q95.jpg")


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Contents and modification time of every file below a folder, but for the journal."""
    return {
        str(p.relative_to(folder)): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.parent.name != ".codiff-batch"
    }


@pytest.mark.slow
@pytest.mark.floors
def test_crushed_photos_are_restored_and_good_ones_skipped(run, photos: Path) -> None:
    before = tree(photos)
    ran = run(photos)
    assert ran.code == 0
    assert sorted(tree(photos.parent / "photos-restored")) == ["again.jpg", "trip/crushed.jpg"]
    assert tree(photos) == before
    assert "3 photos: 2 restored, 1 skipped, 0 failed" in ran.err
    assert ran.out == ""


@pytest.mark.slow
@pytest.mark.floors
def test_a_restored_photo_is_nearer_to_what_was_photographed(run, photos: Path) -> None:
    run(photos)
    truth = np.asarray(scene(112, 96), float)
    error = {
        name: np.mean((np.asarray(Image.open(path), float) - truth) ** 2)
        for name, path in (
            ("source", photos / "trip/crushed.jpg"),
            ("restored", photos.parent / "photos-restored/trip/crushed.jpg"),
        )
    }
    assert error["restored"] < error["source"]


@pytest.mark.slow
@pytest.mark.floors
def test_the_same_run_again_gives_the_same_bytes(run, photos: Path, tmp_path: Path) -> None:
    run(photos, "-o", tmp_path / "one")
    run(photos, "-o", tmp_path / "two", "--jobs", 4)
    assert tree(tmp_path / "one") == tree(tmp_path / "two") != {}


@pytest.mark.slow
def test_a_second_run_keeps_existing_outputs_unless_told(run, photos: Path) -> None:
    run(photos)
    output = photos.parent / "photos-restored/trip/crushed.jpg"
    output.write_bytes(b"edited by hand")
    assert run(photos, "-v").err.count("done before:") == 2
    assert "already exists" in run(photos, "--strength", 0.5, "-v").err
    assert output.read_bytes() == b"edited by hand"
    assert run(photos, "--overwrite").code == 0
    assert output.read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.slow
def test_outputs_are_recognised_and_never_restored_twice(run, photos: Path, tmp_path: Path) -> None:
    run(photos)
    refused = run(tmp_path / "photos-restored")
    assert (refused.code, "holds outputs of earlier runs" in refused.err) == (2, True)
    shutil.copytree(tmp_path / "photos-restored", tmp_path / "moved", ignore=shutil.ignore_patterns(".codiff-batch"))
    ran = run(tmp_path / "moved", "-v")
    assert ran.err.count("skipped:") == 2
    assert "restored before: codiff-batch" in ran.err


@pytest.mark.slow
@pytest.mark.floors
def test_dry_run_judges_everything_and_writes_nothing_but_the_report(run, photos: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    ran = run(photos, "--dry-run", "--report", tmp_path / "r.json")
    after = tree(tmp_path)
    del after["r.json"]
    assert after == before
    assert "2 would be restored, 1 skipped" in ran.err
    records = json.loads((tmp_path / "r.json").read_text())
    assert [r["output"] for r in records] == [None, None, None]
    assert {tuple(r["steps"]) for r in records} == {("read",), ("read", "decode", "judge")}


@pytest.mark.slow
@pytest.mark.floors
def test_a_dry_run_judges_on_the_first_of_several_devices(run, photos: Path) -> None:
    ran = run(photos, "--dry-run", "--device", "cpu, cpu")
    assert (ran.code, "2 would be restored, 1 skipped" in ran.err) == (0, True)
    assert run(photos, "--dry-run", "--device", "cpu,").code == 2


@pytest.mark.slow
def test_the_report_has_one_record_a_photo_with_both_witnesses(run, photos: Path, tmp_path: Path) -> None:
    write(photos / "torn.jpg", jpeg(20)[:500])
    ran = run(photos, "--report", tmp_path / "r.json")
    assert ran.code == 3
    records = {Path(r["source"]).name: r for r in json.loads((tmp_path / "r.json").read_text())}
    assert all(list(r) == [*COLUMNS, "steps"] for r in records.values())
    again, crushed, torn = records["again.jpg"], records["crushed.jpg"], records["torn.jpg"]
    assert again["outcome"] == "restored"
    assert again["header_qf"] == 95
    assert again["estimated_qf"] < 60
    assert "though the header says 95" in again["reason"]
    assert (crushed["width"], crushed["height"], crushed["model"]) == (112, 96, "compact")
    assert crushed["header_qf"] == 12
    assert 0 < crushed["estimated_qf"] < 40
    assert Path(crushed["output"]).is_file()
    assert list(crushed["steps"]) == ["read", "decode", "judge", "restore", "settle", "encode", "write"]
    assert all(0 < seconds < crushed["seconds"] for seconds in crushed["steps"].values())
    assert list(torn["steps"]) == ["read"]
    assert (torn["outcome"], torn["output"], torn["width"]) == ("failed", None, None)
    assert "truncated" in torn["reason"]


@pytest.mark.slow
def test_the_csv_report_holds_the_same(run, photos: Path, tmp_path: Path) -> None:
    run(photos, "--report", tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert sorted(row["outcome"] for row in rows) == ["restored", "restored", "skipped"]


@pytest.mark.slow
@pytest.mark.floors
def test_bad_files_get_a_line_each_and_the_others_are_done(run, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    png = BytesIO()
    scene().save(png, "PNG")
    write(folder / "a-empty.jpg", b"")
    write(folder / "b-mislabelled.jpg", png.getvalue())
    write(folder / "c-torn.jpg", jpeg(20)[:-200])
    write(folder / "d-cmyk.jpg", jpeg(20, image=scene().convert("CMYK")))
    write(folder / "e-good.jpg", jpeg(20))
    ran = run(folder)
    assert ran.code == 3
    assert "the file is empty" in ran.err
    assert "not a JPEG file, it is PNG" in ran.err
    assert "truncated" in ran.err
    assert "CMYK" in ran.err
    assert "Traceback" not in ran.err
    assert list(tree(tmp_path / "p-restored")) == ["e-good.jpg"]


def test_pixel_limit_is_checked_before_decoding(run, tmp_path: Path) -> None:
    write(tmp_path / "p/a.jpg", jpeg(20, image=scene(112, 96)))
    ran = run(tmp_path / "p", "--max-megapixels", "0.01")
    assert ran.code == 3
    assert "112x96 pixels is over the limit of 0.01 megapixels" in ran.err


@pytest.mark.slow
def test_copy_skipped_makes_the_output_folder_complete(run, photos: Path) -> None:
    run(photos, "--copy-skipped")
    copied = photos.parent / "photos-restored/fine.jpg"
    assert copied.read_bytes() == (photos / "fine.jpg").read_bytes()
    assert copied.stat().st_mtime_ns == (photos / "fine.jpg").stat().st_mtime_ns


@pytest.mark.slow
@pytest.mark.floors
def test_in_place_keeps_the_untouched_original_first(run, photos: Path, tmp_path: Path) -> None:
    before = tree(photos)
    assert run(photos, "--in-place", "--backup", tmp_path / "kept").code == 0
    after = tree(photos)
    assert after["fine.jpg"] == before["fine.jpg"]
    for name in ("trip/crushed.jpg", "again.jpg"):
        assert tree(tmp_path / "kept")[name] == before[name]
        assert after[name][0] != before[name][0]
        assert after[name][1] == before[name][1]  # the modification time stays


@pytest.mark.slow
@pytest.mark.floors
def test_in_place_a_second_time_changes_nothing(run, photos: Path, tmp_path: Path) -> None:
    run(photos, "--in-place", "--backup", tmp_path / "kept")
    before = tree(tmp_path)
    assert run(photos, "--in-place", "--backup", tmp_path / "kept").code == 0
    assert tree(tmp_path) == before


@pytest.mark.slow
@pytest.mark.floors
def test_in_place_leaves_a_photo_alone_whose_backup_cannot_be_kept(run, photos: Path, tmp_path: Path) -> None:
    write(tmp_path / "kept/again.jpg", b"another picture")
    before = (photos / "again.jpg").read_bytes()
    ran = run(photos, "--in-place", "--backup", tmp_path / "kept")
    assert ran.code == 3
    assert "another picture" in ran.err
    assert (photos / "again.jpg").read_bytes() == before
    assert (tmp_path / "kept/again.jpg").read_bytes() == b"another picture"


def test_in_place_refuses_links(run, tmp_path: Path) -> None:
    photo = write(tmp_path / "p/a.jpg", jpeg(20))
    (tmp_path / "p/b.jpg").symlink_to(photo)
    os.link(photo, tmp_path / "other-name.jpg")
    ran = run(tmp_path / "p", "--in-place", "--backup", tmp_path / "kept")
    assert ran.code == 3
    assert "symbolic link" in ran.err
    assert "hard links" in ran.err


@pytest.mark.slow
@pytest.mark.floors
def test_a_source_that_changes_meanwhile_is_left_for_the_next_run(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = write(tmp_path / "p/a.jpg", jpeg(20))
    decode = JpegPhoto.decode

    def decode_and_change(read: JpegPhoto) -> PillowPixels:
        photo.write_bytes(jpeg(20, image=scene(seed=1)))  # somebody saves the file just after it was read
        return decode(read)

    monkeypatch.setattr(JpegPhoto, "decode", decode_and_change)
    ran = run(tmp_path / "p")
    assert ran.code == 3
    assert "changed while it was worked on" in ran.err
    assert tree(tmp_path / "p-restored") == {}


@pytest.mark.slow
@pytest.mark.floors
@pytest.mark.parametrize(("format", "suffix"), [("jpeg", ".jpg"), ("png", ".png"), ("webp", ".webp"), ("tiff", ".tif")])
def test_every_format_opens_again_in_its_own_kind(run, tmp_path: Path, format: str, suffix: str) -> None:
    write(tmp_path / "p/a.jpg", jpeg(20))
    assert run(tmp_path / "p", "--format", format).code == 0
    with Image.open(tmp_path / f"p-restored/a{suffix}") as image:
        assert image.format == format.upper()
        assert image.size == (96, 64)


def test_texture_is_refused_where_a_model_has_none(run, photos: Path, tmp_path: Path) -> None:
    ran = run(photos, "--model", "fast", "--texture", 0.5)
    assert ran.code == 2
    assert "a model that adds texture, such as compact; fast adds none (see --texture)" in ran.err
    assert not (tmp_path / "photos-restored").exists()


@pytest.mark.slow
def test_a_quality_given_by_hand_is_what_the_networks_hear(run, tmp_path: Path) -> None:
    source = write(tmp_path / "p/a.jpg", jpeg(95, image=scene(128, 96), subsampling=0))
    told = {}
    for qf in (10, 40):
        ran = run(tmp_path / "p", "--qf", qf, "-o", tmp_path / f"{qf}", "--format", "png", "--report", "-")
        (record,) = json.loads(ran.out)
        assert (record["outcome"], record["code"], record["estimated_qf"]) == ("restored", "quality-by-hand", qf)
        told[qf] = np.asarray(Image.open(tmp_path / f"{qf}/a.png"))
        expected = restore_photo(JpegPhoto.open(source), Restorer.load("compact", "cpu"), Settings(qf=qf))
        assert np.array_equal(told[qf], expected)
    assert not np.array_equal(told[10], told[40])
    assert "a.jpg: quality 10 given by hand" in run(tmp_path / "p", "--qf", 10, "--dry-run", "-v").err


@pytest.mark.slow
@pytest.mark.floors
def test_strength_zero_gives_the_sources_pixels(run, tmp_path: Path) -> None:
    write(tmp_path / "p/a.jpg", jpeg(20))
    run(tmp_path / "p", "--format", "png", "--strength", 0, "--no-constrain")
    source = np.asarray(Image.open(tmp_path / "p/a.jpg"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "p-restored/a.png")), source)


@pytest.mark.slow
@pytest.mark.floors
def test_constrained_output_codes_to_the_sources_coefficients(run, tmp_path: Path) -> None:
    source = JpegPhoto.open(write(tmp_path / "p/a.jpg", jpeg(20, subsampling=2)))
    run(tmp_path / "p", "--format", "png")
    buffer = BytesIO()
    tables = [table.ravel().tolist() for table in source.header.tables[:2]]
    Image.open(tmp_path / "p-restored/a.png").save(buffer, "JPEG", qtables=tables, subsampling=2)
    coded = JpegPhoto.from_bytes(buffer.getvalue()).coefficients()
    same = [np.mean(a == b) for a, b in zip(source.coefficients(), coded, strict=True)]
    assert min(same) > 0.999


@pytest.mark.slow
@pytest.mark.floors
def test_names_that_are_not_utf8_are_restored_and_reported(run, tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path / "p") + b"/caf\xe9\n.jpg"
    write(Path(os.fsdecode(raw)), jpeg(20))
    ran = run(tmp_path / "p", "-v", "--report", tmp_path / "r.json")
    assert ran.code == 0
    assert r"caf\udce9\n.jpg" in ran.err
    (record,) = json.loads((tmp_path / "r.json").read_text())
    assert os.fsencode(record["source"]) == raw
    assert [os.fsencode(name) for name in tree(tmp_path / "p-restored")] == [b"caf\xe9\n.jpg"]


def test_an_empty_folder_is_all_well(run, tmp_path: Path) -> None:
    ran = run(tmp_path)
    assert ran.code == 0
    assert "no JPEG files found" in ran.err


@pytest.mark.slow
@pytest.mark.floors
def test_quiet_prints_failures_only(run, tmp_path: Path) -> None:
    write(tmp_path / "p/a.jpg", jpeg(20))
    assert run(tmp_path / "p", "-q").err == ""
    write(tmp_path / "p/b.jpg", b"")
    assert run(tmp_path / "p", "-q").err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing-folder"], 2, "does not exist"),
        (["--min-qf", "101", "."], 2, "0<=x<=100"),
        (["--format", "gif", "."], 2, "gif"),
        (["--in-place", "."], 2, "(see --backup)"),
        (["--report", "r.txt", "."], 2, ".json, .csv or .html"),
        (["--report", "a.jpg/r.json", "."], 4, "cannot be written: File exists (see --report)"),
        (["--model", "unheard-of", "."], 4, "no model named 'unheard-of'; available: compact"),
        (["--model", "./nowhere", "."], 4, "not a model folder"),
        (["--device", "cuda:77", "."], 4, "cuda:77"),
        (["--device", "abacus", "."], 4, "abacus"),
        (["--no-such-option"], 2, "no-such-option"),
    ],
)
def test_a_wrong_command_line_is_one_clear_error(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    write(tmp_path / "a.jpg", jpeg(20))
    monkeypatch.chdir(tmp_path)
    ran = run(*arguments)
    assert ran.code == code
    assert message in ran.err.replace("\n", " ")
    assert "Traceback" not in ran.err
    assert list(tree(tmp_path)) == ["a.jpg"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--in-place", "--backup"), ("-o",)])
@pytest.mark.parametrize("marked", [False, True], ids=["gone", "another"])
def test_nothing_is_written_where_a_folder_was_that_has_been_moved(
    run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], marked: bool
) -> None:
    """Its disk may have been taken away: ``undo`` would not find what is written into the mount point."""
    folder, before = tmp_path / "kept", tree(photos)
    encode = formats.encode

    def move_and_encode(*arguments: Any) -> bytes:
        if not (tmp_path / "moved").exists():
            folder.rename(tmp_path / "moved")
            if marked:
                claim(folder, Holds.BACKUPS if "--backup" in options else Holds.OUTPUTS)
        return encode(*arguments)

    monkeypatch.setattr(formats, "encode", move_and_encode)
    ran = run(photos, *options, folder)
    assert ran.code == 3
    assert "is not the folder that the run began with" in ran.err
    assert tree(photos) == before
    assert not list(folder.rglob("*.jpg"))


@pytest.mark.slow
def test_a_photo_stays_if_the_backup_folder_is_moved_while_its_backup_is_written(
    run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = tmp_path / "kept", tree(photos)
    keep = outputs.keep_backup

    def move_and_keep(*arguments: Any, **options: Any) -> None:
        if not (tmp_path / "moved").exists():
            folder.rename(tmp_path / "moved")
        keep(*arguments, **options)

    monkeypatch.setattr(outputs, "keep_backup", move_and_keep)
    ran = run(photos, "--in-place", "--backup", folder)
    assert ran.code == 3
    assert "is not the folder that the run began with" in ran.err
    assert tree(photos) == before


@pytest.mark.slow
def test_nothing_is_copied_where_an_output_folder_was_that_has_been_moved(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "p/a.jpg", jpeg(97))
    decode = JpegPhoto.decode

    def move_and_decode(read: JpegPhoto) -> PillowPixels:
        (tmp_path / "out").rename(tmp_path / "moved")
        return decode(read)

    monkeypatch.setattr(JpegPhoto, "decode", move_and_decode)
    ran = run(tmp_path / "p", "-o", tmp_path / "out", "--copy-skipped")
    assert ran.code == 3
    assert "is not the folder that the run began with" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_link_that_leads_to_itself_fails_alone(run, tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", jpeg(20))
    for name in ("loop.jpg", "loop"):
        (tmp_path / name).symlink_to(name)
    ran = run(photo, tmp_path / "loop.jpg", "-o", tmp_path / "out")
    assert (ran.code, "Traceback" in ran.err) == (3, False)
    assert "symbolic links" in ran.err
    assert (tmp_path / "out/a.jpg").exists()
    for option in ("-o", "--backup"):
        ran = run(photo, *(["--in-place"] if option == "--backup" else []), option, tmp_path / "loop")
        assert ran.code in (2, 4)
        assert "Traceback" not in ran.err


def test_photos_with_the_same_bytes_are_made_again(run, tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / f"p/{name}.jpg", jpeg(20))
    assert run(tmp_path / "p").code == 0
    assert run(tmp_path / "p", "--overwrite").code == 0
    assert len(tree(tmp_path / "p-restored")) == 4
