"""What the journal remembers: nothing is done twice, nothing is lost, and status and undo can tell."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from codiff_batch.batch.journal import Journal, journals_in
from codiff_batch.batch.ledger import read_ledger
from codiff_batch.batch.rows import Intent
from tests.cli.test_restore import tree
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(4):
        write(tmp_path / f"photos/{index}.jpg", jpeg(10 + index, image=scene(seed=index)))
    return tmp_path / "photos"


@pytest.fixture
def restored(photos: Path) -> Path:
    return photos.with_name("photos-restored")


@pytest.mark.slow
def test_a_second_run_does_nothing_twice(run, photos: Path, restored: Path, model: Path) -> None:
    run(photos, "--model", model)
    before = {path: path.stat().st_ino for path in restored.glob("*.jpg")}
    ran = run(photos, "--model", model)
    assert "4 photos: 0 restored, 4 skipped" in ran.err
    assert "done before" in ran.err
    assert {path: path.stat().st_ino for path in restored.glob("*.jpg")} == before


@pytest.mark.slow
def test_a_changed_source_is_done_again_and_its_output_replaced(run, photos: Path, restored: Path, model: Path) -> None:
    run(photos, "--model", model)
    before = tree(restored)
    write(photos / "2.jpg", jpeg(30, image=scene(seed=9)))
    assert "1 restored, 3 skipped" in run(photos, "--model", model).err
    assert [name for name in before if tree(restored)[name] != before[name]] == ["2.jpg"]


@pytest.mark.slow
def test_other_options_or_another_model_do_it_again(run, photos: Path, tmp_path: Path, model: Path) -> None:
    run(photos, "--model", model)
    assert "4 restored" in run(photos, "--model", model, "--strength", 0.5).err
    assert "4 restored" in run(photos, "--model", make_tiny_model(tmp_path / "other")).err
    assert "0 restored, 4 skipped" in run(photos, "--model", tmp_path / "other", "--jobs", 1).err


@pytest.mark.slow
def test_an_output_that_somebody_edited_is_never_replaced(run, photos: Path, restored: Path, model: Path) -> None:
    run(photos, "--model", model)
    write(restored / "1.jpg", b"edited by hand")
    ran = run(photos, "--model", model, "--strength", 0.5, "-v")
    assert "3 restored, 1 skipped" in ran.err
    assert "output already exists" in ran.err
    assert read_ledger(restored).attempts[Path("1.jpg")].outcome.output == restored / "1.jpg"
    assert (restored / "1.jpg").read_bytes() == b"edited by hand"


@pytest.mark.slow
def test_an_output_that_is_gone_is_made_again(run, photos: Path, restored: Path, model: Path) -> None:
    run(photos, "--model", model)
    (restored / "3.jpg").unlink()
    assert "1 restored, 3 skipped" in run(photos, "--model", model).err


@pytest.mark.slow
def test_what_failed_is_tried_again(run, photos: Path, model: Path) -> None:
    whole = (photos / "0.jpg").read_bytes()
    write(photos / "0.jpg", whole[:300])
    assert "3 restored, 0 skipped, 1 failed" in run(photos, "--model", model).err
    write(photos / "0.jpg", whole)
    assert "1 restored, 3 skipped, 0 failed" in run(photos, "--model", model).err


def test_skipped_photos_are_not_judged_again(run, tmp_path: Path, model: Path) -> None:
    write(tmp_path / "photos/fine.jpg", jpeg(90))
    run(tmp_path / "photos", "--model", model, "--min-qf", 1)
    (model / "weights.safetensors").write_bytes(b"")  # a model that is loaded now would end the run
    ran = run(tmp_path / "photos", "--model", model, "--min-qf", 1)
    assert ran.code == 0
    assert "1 skipped" in ran.err


@pytest.mark.slow
def test_a_copy_follows_its_changed_source(run, tmp_path: Path, model: Path) -> None:
    photo = write(tmp_path / "photos/fine.jpg", jpeg(90))
    arguments = (tmp_path / "photos", "--model", model, "--min-qf", 1, "--copy-skipped")
    run(*arguments)
    write(photo, jpeg(95))
    run(*arguments)
    assert (tmp_path / "photos-restored/fine.jpg").read_bytes() == photo.read_bytes()


def test_names_that_are_not_utf8_are_remembered(run, tmp_path: Path, model: Path) -> None:
    name = os.fsencode(tmp_path / "photos") + b"/\xff\n\x1b.jpg"
    write(Path(os.fsdecode(name)), jpeg(20))
    run(tmp_path / "photos", "--model", model)
    (attempt,) = read_ledger(tmp_path / "photos").attempts.values()
    assert os.fsencode(attempt.source) == name
    assert "1 skipped" in run(tmp_path / "photos", "--model", model).err


@pytest.mark.slow
def test_nothing_but_the_digest_tells_which_bytes_appeared(run, photos: Path, restored: Path, model: Path) -> None:
    """A run that is killed after the file has appeared and before that is recorded leaves an intent."""
    run(photos, "--model", model)
    for standing in read_ledger(restored).standing.values():
        assert standing.sha256
        assert standing.made
        intent = Intent(standing.sha256, standing.original, standing.made, "as it was meant")
        (path,) = journals_in(restored)
        with contextlib.closing(Journal(path)) as journal:
            journal.stand(replace(standing, sha256=None, made=None, intent=intent))
    before = {path: path.stat().st_ino for path in restored.glob("*.jpg")}
    write(restored / "1.jpg", b"not what was meant to appear")
    ran = run(photos, "--model", model)
    assert "3 restored, 1 skipped" in ran.err
    after = {path: path.stat().st_ino for path in restored.glob("*.jpg")}
    assert {path for path in after if after[path] != before[path]} <= {restored / "1.jpg"}


@pytest.mark.slow
def test_status_counts_and_names_failures(run, photos: Path, restored: Path, model: Path) -> None:
    write(photos / "torn.jpg", jpeg(20)[:200])
    write(photos / "fine.jpg", jpeg(90))
    run(photos, "--model", model, "--min-qf", 50, "--dry-run")
    assert run("status", photos).code == 4
    run(photos, "--model", model, "--min-qf", 50)
    for folder in (photos, restored):
        ran = run("status", folder)
        assert ran.code == 0
        assert "1 failed, 0 left" in ran.out
        assert "torn.jpg: " in ran.out
    told = json.loads(run("status", restored, "--json").out)
    assert sum(told["counts"].values()) == 6
    assert told["failures"][0]["source"].endswith("torn.jpg")
    assert told["photos_per_second"] > 0


@pytest.mark.slow
def test_status_tells_what_is_left_of_a_stopped_run(run, photos: Path, restored: Path, model: Path) -> None:
    run(photos, "--model", model)
    (path,) = journals_in(restored)
    database = sqlite3.connect(path)
    database.execute("DELETE FROM attempts WHERE CAST(place AS TEXT) = '1.jpg'")
    database.commit()
    database.close()
    assert "3 restored, 0 skipped, 0 failed, 1 left" in run("status", restored).out


@pytest.mark.slow
def test_undo_brings_every_byte_back(run, photos: Path, tmp_path: Path, model: Path) -> None:
    before = tree(photos)
    run(photos, "--model", model, "--in-place", "--backup", tmp_path / "kept")
    assert tree(photos) != before
    ran = run("undo", tmp_path / "kept")
    assert ran.code == 0
    assert "4 originals put back, 0 failed" in ran.err
    assert tree(photos) == before
    assert "0 originals put back" in run("undo", tmp_path / "kept").err


@pytest.mark.slow
def test_undo_leaves_a_photo_alone_that_somebody_edited(run, photos: Path, tmp_path: Path, model: Path) -> None:
    run(photos, "--model", model, "--in-place", "--backup", tmp_path / "kept")
    write(photos / "1.jpg", b"cropped by hand")
    ran = run("undo", tmp_path / "kept")
    assert ran.code == 3
    assert "was changed since it was restored" in ran.err
    assert (photos / "1.jpg").read_bytes() == b"cropped by hand"
    assert "3 originals put back, 1 failed" in ran.err


@pytest.mark.slow
def test_undo_refuses_a_backup_that_is_not_the_original(run, photos: Path, tmp_path: Path, model: Path) -> None:
    run(photos, "--model", model, "--in-place", "--backup", tmp_path / "kept")
    restored = tree(photos)["1.jpg"]
    write(tmp_path / "kept/1.jpg", b"rotten")
    assert "is another picture" in run("undo", tmp_path / "kept").err
    assert tree(photos)["1.jpg"] == restored


@pytest.mark.slow
def test_after_undo_photos_are_restored_again(run, photos: Path, tmp_path: Path, model: Path) -> None:
    run(photos, "--model", model, "--in-place", "--backup", tmp_path / "kept")
    once = {name: digest for name, (digest, _) in tree(photos).items()}
    run("undo", tmp_path / "kept")
    assert "4 restored" in run(photos, "--model", model, "--in-place", "--backup", tmp_path / "kept").err
    assert {name: digest for name, (digest, _) in tree(photos).items()} == once


@pytest.mark.slow
def test_a_second_rewrite_never_replaces_the_first_backup(run, photos: Path, tmp_path: Path, model: Path) -> None:
    before = tree(photos)
    run(photos, "--model", model, "--in-place", "--backup", tmp_path / "kept")
    write(photos / "1.jpg", jpeg(33, image=scene(seed=5)))
    ran = run(photos, "--model", model, "--in-place", "--backup", tmp_path / "kept")
    assert ran.code == 3
    assert "another picture" in ran.err
    assert tree(tmp_path / "kept") == before


def test_a_folder_without_a_journal_is_one_clear_line(run, tmp_path: Path) -> None:
    for command in ("status", "undo"):
        ran = run(command, tmp_path)
        assert ran.code == 4
        assert ran.err.startswith("codiff-batch: error: no journal in")
        assert ran.err.count("\n") == 1


def test_what_is_not_a_journal_is_one_clear_line(run, photos: Path, restored: Path, model: Path) -> None:
    write(restored / ".codiff-batch/journal-all.sqlite", b"not a database at all" * 100)
    ran = run(photos, "--model", model)
    assert ran.code == 4
    assert "is damaged" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.slow
def test_a_second_run_on_the_same_folder_is_kept_out(run, photos: Path, restored: Path, model: Path) -> None:
    from filelock import FileLock

    (restored / ".codiff-batch").mkdir(parents=True)
    with FileLock(restored / ".codiff-batch/lock-all"):
        ran = run(photos, "--model", model)
        assert ran.code == 5
        assert "another run of codiff-batch is using" in ran.err
        assert run(photos, "--model", model, "--dry-run").code == 0
    assert run(photos, "--model", model).code == 0


@pytest.mark.slow
def test_temporary_files_of_a_killed_run_are_swept(run, photos: Path, restored: Path, model: Path) -> None:
    litter = write(restored / ".codiff-batch-all-abc123.tmp", b"half")
    others = write(restored / ".codiff-batch-2-of-3-abc123.tmp", b"of another shard that may be at work")
    run(photos, "--model", model)
    assert not litter.exists()
    assert others.exists()
