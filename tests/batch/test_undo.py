"""undo puts back what was rewritten, and nothing else."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from codiff_batch.batch import undo
from codiff_batch.batch.journal import Journal, journal_path
from codiff_batch.batch.rows import Made, Standing
from codiff_batch.files.reading import sha256
from tests.batch.test_originals import in_mounts_of_its_own
from tests.faults.nobody import as_nobody, folder_for_all, needs_permissions
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model

NAMES = ("0.jpg", "trip/1.jpg", "trip/2.jpg")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def originals(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> dict[str, bytes]:
    """Photos that were restored in place with their originals in ``kept``."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(NAMES):
        write(Path("photos", name), jpeg(15, image=scene(seed=seed)))
    before = photos()
    assert run("photos", "--in-place", "--backup", "kept", "--model", model).code == 0
    return before


def photos() -> dict[str, bytes]:
    return {name: Path("photos", name).read_bytes() for name in NAMES if Path("photos", name).exists()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "count"), [("trip/*.jpg", 2), ("trip", 2), ("*/2.jpg", 1), ("0.jpg", 1), ("*.jpg", 3)]
)
def test_a_pattern_picks_photos(run, originals: dict[str, bytes], pattern: str, count: int) -> None:
    assert f"{count} originals put back" in run("undo", "kept", pattern).err
    assert sum(photos()[name] == originals[name] for name in NAMES) == count


@pytest.mark.slow
@pytest.mark.floors
def test_a_pattern_that_matches_nothing_is_an_error(run, originals: dict[str, bytes]) -> None:
    restored = photos()
    ran = run("undo", "kept", "tripp/*")
    assert ran.code == 2
    assert "tripp/*" in ran.err
    assert photos() == restored


@pytest.mark.slow
@pytest.mark.floors
def test_a_dry_run_says_what_would_be_put_back(run, originals: dict[str, bytes]) -> None:
    restored = photos()
    ran = run("undo", "kept", "--dry-run")
    assert ran.code == 0
    assert "3 originals would be put back, 0 failed" in ran.err
    assert "photos/trip/1.jpg" in ran.err
    assert photos() == restored


@pytest.mark.slow
@pytest.mark.floors
def test_a_photo_that_was_deleted_comes_back(run, originals: dict[str, bytes]) -> None:
    Path("photos/0.jpg").unlink()
    Path("photos/trip/1.jpg").unlink()
    Path("photos/trip/2.jpg").unlink()
    Path("photos/trip").rmdir()
    assert run("undo", "kept").code == 0
    assert photos() == originals


@pytest.mark.slow
@pytest.mark.floors
def test_a_photo_that_became_a_link_is_left_alone(run, originals: dict[str, bytes]) -> None:
    Path("photos/0.jpg").rename("elsewhere.jpg")
    Path("photos/0.jpg").symlink_to("../elsewhere.jpg")
    restored = Path("elsewhere.jpg").read_bytes()
    assert run("undo", "kept", "0.jpg").code == 3
    assert Path("elsewhere.jpg").read_bytes() == restored


@pytest.mark.slow
@pytest.mark.floors
def test_a_backup_that_is_a_link_is_not_followed(run, originals: dict[str, bytes]) -> None:
    Path("kept/0.jpg").rename("secret.jpg")
    Path("kept/0.jpg").symlink_to("../secret.jpg")
    restored = photos()
    assert run("undo", "kept", "0.jpg").code == 3
    assert photos() == restored


@pytest.mark.slow
@pytest.mark.floors
def test_undo_waits_for_no_run_and_works_beside_none(run, originals: dict[str, bytes]) -> None:
    restored = photos()
    with FileLock("kept/.codiff-batch/lock-all"):
        ran = run("undo", "kept")
        assert ran.code == 5
        assert run("undo", "kept", "--dry-run").code == 0
    Journal(journal_path(Path("kept"), "1-of-2")).close()
    with FileLock("kept/.codiff-batch/lock-1-of-2"):
        assert run("undo", "kept").code == 5
    assert photos() == restored
    assert run("undo", "kept").code == 0


@pytest.mark.slow
@pytest.mark.floors
def test_a_photo_that_is_its_original_already_is_left_as_it_is(run, originals: dict[str, bytes]) -> None:
    write(Path("photos/0.jpg"), originals["0.jpg"])
    ran = run("undo", "kept")
    assert ran.code == 0
    assert "2 originals put back, 1 are in place already, 0 failed" in ran.err
    assert photos() == originals


@pytest.mark.slow
@pytest.mark.floors
def test_a_disk_that_carries_both_may_be_mounted_elsewhere(run, originals: dict[str, bytes]) -> None:
    Path("new place").mkdir()
    for name in ("photos", "kept"):
        Path(name).rename(Path("new place", name))
    Path("far/away").mkdir(parents=True)
    Path("far/away/kept").symlink_to("../../new place/kept")
    assert run("undo", "far/away/kept").code == 0
    os.chdir("new place")
    assert photos() == originals


@pytest.mark.slow
def test_a_read_only_backup_folder_is_enough(originals: dict[str, bytes]) -> None:
    ran = in_mounts_of_its_own(
        "mount --bind kept kept && mount -o remount,ro,bind kept && codiff-batch status kept && codiff-batch undo kept"
    )
    assert ran.returncode == 0, ran.stderr
    assert "3 originals put back, 0 failed" in ran.stderr
    assert photos() == originals


@pytest.mark.slow
def test_a_full_backup_disk_does_not_stop_undo(originals: dict[str, bytes]) -> None:
    ran = in_mounts_of_its_own(
        "cp -r kept copy && mount -t tmpfs -o size=400k none kept && cp -r copy/. kept && "
        "dd if=/dev/zero of=kept/fill bs=1k count=999 2>/dev/null; "
        "codiff-batch undo kept; echo $?; rm kept/fill; codiff-batch undo kept; echo $?"
    )
    assert ran.stdout.split() == ["0", "0"], ran.stderr
    assert "Traceback" not in ran.stderr
    assert photos() == originals


@pytest.mark.slow
@pytest.mark.floors
@pytest.mark.parametrize("owner", ["zz", "all"])
@pytest.mark.parametrize("note", [False, True])
def test_a_planted_journal_reaches_nothing_that_we_did_not_write(
    run, tmp_path: Path, originals: dict[str, bytes], owner: str, note: bool
) -> None:
    """Whoever may write to the backup folder can write a journal that names any file."""
    restored = Path("photos/0.jpg").read_bytes()
    victim = write(tmp_path / "home/picture.jpg", restored if note else b"# settings\n")
    before = victim.read_bytes()
    new = tmp_path / "home/.profile", tmp_path / "home/new.jpg", Path("photos/script.sh").resolve()
    with contextlib.closing(Journal(journal_path(Path("kept"), owner))) as journal:
        for number, (place, target) in enumerate(
            [("evil.jpg", victim), ("../evil.jpg", victim), *(("evil.jpg", path) for path in new)]
        ):
            # Each row has a place of its own, which is its key.
            place = place.replace("evil", f"evil{number}")
            write(Path("kept", place), b"evil").chmod(0o4777)
            journal.stand(Standing(Path(place), target, True, sha256(b"evil"), sha256(before), Made("", "m")))
    run("undo", "kept")
    assert victim.read_bytes() == before
    assert not any(path.exists() for path in new)


@pytest.mark.slow
@pytest.mark.floors
@pytest.mark.parametrize("data", [jpeg(90), b"# settings"], ids=["a photo", "no photo"])
def test_a_photo_without_our_note_is_never_replaced_whatever_the_journal_says(
    run, originals: dict[str, bytes], data: bytes
) -> None:
    photo, evil = write(Path("photos/mine.jpg"), data), write(Path("kept/evil.jpg"), b"evil")
    with contextlib.closing(Journal(journal_path(Path("kept"), "all"))) as journal:
        digests = sha256(evil.read_bytes()), sha256(data)
        journal.stand(Standing(Path("evil.jpg"), photo.resolve(), True, *digests, Made("", "m")))
    assert run("undo", "kept").code == 3
    assert photo.read_bytes() == data


@pytest.mark.slow
@pytest.mark.floors
def test_special_bits_of_a_backup_do_not_come_back(run, originals: dict[str, bytes]) -> None:
    Path("kept/0.jpg").chmod(0o6755)
    assert run("undo", "kept").code == 0
    assert Path("photos/0.jpg").stat().st_mode & 0o7777 == 0o755


@pytest.mark.slow
@pytest.mark.floors
def test_an_output_folder_has_nothing_to_put_back(run, originals: dict[str, bytes], model: Path) -> None:
    run("kept/../photos", "-o", "out", "--again", "--model", model)
    ran = run("undo", "out")
    assert ran.code == 2
    assert "were never changed" in ran.err


@pytest.mark.slow
@pytest.mark.floors
def test_a_damaged_journal_is_rebuilt_from_the_files(run, originals: dict[str, bytes], model: Path) -> None:
    journal = Path("kept/.codiff-batch/journal-all.sqlite")
    journal.write_bytes(b"\xaa" * journal.stat().st_size)
    assert run("undo", "kept").code == 4
    ran = run("rebuild", "kept", "photos")
    assert ran.code == 0
    assert "3 restored photos found again, 0 that are not, 0 failed" in ran.err
    assert "0 restored, 3 skipped" in run("photos", "--in-place", "--backup", "kept", "--model", model).err
    assert run("undo", "kept").code == 0
    assert photos() == originals


@pytest.mark.slow
@pytest.mark.floors
def test_rebuild_tells_photos_apart_that_were_changed_since(run, originals: dict[str, bytes]) -> None:
    write(Path("photos/0.jpg"), b"cropped by hand")
    write(Path("photos/trip/1.jpg"), originals["trip/1.jpg"])
    Path("photos/trip/2.jpg").unlink()
    ran = run("rebuild", "kept", "photos")
    assert ran.code == 3
    assert "0 restored photos found again, 2 that are not, 1 failed" in ran.err
    assert "kept/trip/2.jpg" in ran.err


@pytest.mark.slow
@pytest.mark.floors
def test_rebuild_with_the_wrong_folder_forgets_nothing(run, originals: dict[str, bytes]) -> None:
    Path("others").mkdir()
    assert run("rebuild", "kept", "others").code == 3
    assert "3 originals put back, 0 failed" in run("undo", "kept").err
    assert photos() == originals


@pytest.mark.slow
@pytest.mark.floors
def test_what_a_killed_undo_left_is_removed(run, originals: dict[str, bytes]) -> None:
    litter = write(Path("photos/.codiff-batch-undo-abc.tmp"), b"half")
    run("undo", "kept", "--dry-run")
    assert litter.exists()
    run("undo", "kept")
    assert not litter.exists()


@pytest.mark.slow
@pytest.mark.floors
def test_a_lost_journal_of_outputs_is_rebuilt(run, originals: dict[str, bytes], model: Path) -> None:
    run("undo", "kept")
    run("photos", "-o", "out", "--model", model)
    for path in Path("out/.codiff-batch").glob("*"):
        path.unlink()
    assert run("rebuild", "out", "photos").code == 0
    assert "0 restored, 3 skipped" in run("photos", "-o", "out", "--model", model).err


@pytest.mark.slow
@pytest.mark.floors
def test_undo_leaves_a_consistent_journal(run, originals: dict[str, bytes]) -> None:
    run("undo", "kept", "trip")
    with contextlib.closing(sqlite3.connect("kept/.codiff-batch/journal-all.sqlite")) as database:
        assert [bytes(p) for (p,) in database.execute("SELECT place FROM standing")] == [b"0.jpg"]
    assert "1 restored, 0 skipped, 0 failed" in run("status", "kept").out
    assert "  2 put back" in run("status", "kept").out


@pytest.mark.slow
@pytest.mark.floors
@needs_permissions
def test_a_folder_that_may_not_be_entered_costs_its_photos_alone(run, model: Path) -> None:
    with folder_for_all() as folder:
        names = ("a.jpg", "closed/deep/b.jpg")
        photos = [write(folder / "photos" / name, jpeg(15, image=scene(seed=7))) for name in names]
        run(folder / "photos", "--in-place", "--backup", folder / "kept", "--model", model)
        for path in folder.rglob("*"):
            path.chmod(0o777)
        (folder / "photos/closed").chmod(0)
        with as_nobody():
            ran = run("undo", folder / "kept")
        assert ran.code == 3
        assert "1 originals put back, 1 failed" in ran.err
        assert "cannot be put back: Permission denied" in ran.err
        assert photos[0].read_bytes() == jpeg(15, image=scene(seed=7))
        (folder / "photos/closed").chmod(0o777)
        assert run("undo", folder / "kept").code == 0


@pytest.mark.slow
@pytest.mark.floors
def test_a_backup_that_is_not_the_original_is_told_by_a_dry_run_too(run, originals: dict[str, bytes]) -> None:
    write(Path("kept/0.jpg"), b"rotten")
    ran = run("undo", "kept", "--dry-run")
    assert ran.code == 3
    assert "2 originals would be put back, 1 failed" in ran.err


@pytest.mark.parametrize("named", ["photos", "photos/0.jpg"])
def test_a_library_that_moved_and_left_a_link_behind_is_undone(
    run, tmp_path: Path, model: Path, monkeypatch, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = write(Path("photos/0.jpg"), jpeg(15))
    run(named, "--in-place", "--backup", "kept", "--model", model)
    Path("big disk").mkdir()
    Path("photos").rename("big disk/photos")
    Path("photos").symlink_to("big disk/photos")
    assert run("undo", "kept").code == 0
    assert photo.read_bytes() == jpeg(15)


@pytest.mark.slow
@pytest.mark.floors
@pytest.mark.parametrize("way", ["dots", "a linked folder"])
def test_a_backup_outside_of_its_folder_is_not_put_back(run, originals: dict[str, bytes], way: str) -> None:
    restored = photos()
    if way == "dots":
        Path("kept/0.jpg").rename("0.jpg")
        with contextlib.closing(sqlite3.connect("kept/.codiff-batch/journal-all.sqlite")) as database:
            database.execute("UPDATE standing SET place = CAST('../0.jpg' AS BLOB) WHERE CAST(place AS TEXT) = '0.jpg'")
            database.commit()
    else:
        Path("kept/trip").rename("elsewhere")
        Path("kept/trip").symlink_to("../elsewhere")
    ran = run("undo", "kept")
    assert ran.code == 3
    assert "lies outside of" in ran.err
    outside = "0.jpg" if way == "dots" else "trip/1.jpg"
    assert photos()[outside] == restored[outside]


def test_a_deleted_photo_comes_back_also_with_its_ending_in_capitals(
    run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = write(Path("photos/IMG_1.JPG"), jpeg(15))
    run("photos", "--in-place", "--backup", "kept", "--model", model)
    photo.unlink()
    assert run("undo", "kept", str(photo.resolve())).code == 0
    assert photo.read_bytes() == jpeg(15)


@pytest.mark.slow
@pytest.mark.floors
def test_what_appears_in_place_of_a_deleted_photo_at_the_last_moment_stays(
    run, originals: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = Path("photos/0.jpg")
    photo.unlink()
    write_atomically = undo.write_atomically

    def appears(path: Path, data: bytes, **options: Any) -> None:
        write(photo, b"somebody's")
        write_atomically(path, data, **options)

    monkeypatch.setattr(undo, "write_atomically", appears)
    assert run("undo", "kept", "0.jpg").code == 3
    assert photo.read_bytes() == b"somebody's"


@pytest.mark.slow
@pytest.mark.floors
def test_a_daemon_leaves_what_was_put_back_until_it_changes(run, originals: dict[str, bytes], model: Path) -> None:
    run("undo", "kept")
    watch = ("watch", "photos", "--once", "--settle", 0, "--in-place", "--backup", "kept", "--model", model)
    assert run(*watch).code == 0
    assert photos() == originals
    os.utime("photos/0.jpg")
    assert run(*watch).code == 0
    assert [name for name, data in photos().items() if data != originals[name]] == ["0.jpg"]
