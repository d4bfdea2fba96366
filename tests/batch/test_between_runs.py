"""What people do between two runs: copy, move and delete photos, unmount disks, change links. No original is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codiff_batch.batch import outputs
from codiff_batch.batch.journal import Journal, journal_path
from codiff_batch.batch.ledger import read_ledger
from codiff_batch.batch.rows import Intent, Made
from codiff_batch.errors import PhotoError
from codiff_batch.files.reading import Contents, read_whole, sha256
from tests.batch.test_originals import in_mounts_of_its_own
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model

ORIGINAL = jpeg(15, image=scene(seed=1))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(Path("photos/a.jpg"), ORIGINAL)


@pytest.fixture
def in_place(run, model: Path) -> Callable[..., str]:
    """Restore in place, with the originals in ``kept``, and say how it ended."""

    def call(*arguments: object) -> str:
        return str(run(*arguments, "--in-place", "--backup", "kept", "--model", model).err)

    return call


@pytest.mark.slow
def test_two_copies_of_a_library_never_share_one_backup(run, in_place, photo: Path) -> None:
    """Their photos have the same names and bytes, so the backups would fit; the journal would forget the first."""
    shutil.copytree("photos", "copy")
    in_place("photos")
    told = in_place("copy")
    assert "choose another backup folder" in told
    assert Path("copy/a.jpg").read_bytes() == ORIGINAL
    assert run("undo", "kept").code == 0
    assert photo.read_bytes() == ORIGINAL


@pytest.mark.slow
def test_undo_finds_photos_that_were_named_through_a_link_which_leads_elsewhere_now(run, in_place, photo: Path) -> None:
    Path("current").symlink_to("photos")
    assert "1 restored" in in_place("current")
    Path("current").unlink()
    Path("next").mkdir()
    Path("current").symlink_to("next")
    assert run("undo", "kept").code == 0
    assert photo.read_bytes() == ORIGINAL


@pytest.mark.slow
def test_undo_finds_photos_that_a_list_named_through_a_link(run, in_place, photo: Path) -> None:
    Path("here").mkdir()
    Path("here/link").symlink_to("../photos")
    write(Path("here/list"), b"link/a.jpg\n")
    os.chdir("here")
    assert "1 restored" in in_place("--files-from", "list")
    assert run("undo", "kept").code == 0
    assert Path("../photos/a.jpg").read_bytes() == ORIGINAL


@pytest.mark.slow
def test_undo_puts_nothing_into_the_mount_point_of_a_disk_that_is_away(photo: Path, model: Path) -> None:
    Path("card").mkdir()
    script = f"""
        mount -t tmpfs none card; mkdir card/in; cp photos/a.jpg card/in
        codiff-batch card/in --in-place --backup kept --model {model} || exit 10
        cp -r card disk; umount card
        codiff-batch undo kept; echo "away: $?"
        find card -type f
        mount -t tmpfs none card; cp -r disk/in card
        codiff-batch undo kept; echo "back: $?"
        cmp card/in/a.jpg photos/a.jpg && echo same
    """
    ran = in_mounts_of_its_own(script)
    assert ran.stdout == "away: 3\nback: 0\nsame\n", ran.stderr
    assert "is not mounted" in ran.stderr


@pytest.mark.slow
def test_a_photo_that_was_deleted_after_its_disk_moved_comes_back_beside_the_others(run, in_place, photo: Path) -> None:
    in_place("photos")
    Path("new").mkdir()
    for name in ("photos", "kept"):
        Path(name).rename(Path("new", name))
    Path("new/photos/a.jpg").unlink()
    assert run("undo", "new/kept").code == 0
    assert Path("new/photos/a.jpg").read_bytes() == ORIGINAL
    assert not photo.exists()


@pytest.mark.slow
def test_undo_of_a_run_that_was_killed_goes_by_the_bytes_that_stand(run, in_place, photo: Path) -> None:
    """The first original went, another photo took its place, and the run that restored that one was killed."""
    in_place("photos")
    restored = photo.read_bytes()
    (standing,) = read_ledger(Path("kept")).standing.values()
    with contextlib.closing(Journal(journal_path(Path("kept"), "all"))) as journal:
        intent = Intent(sha256(restored), sha256(ORIGINAL), Made("", "tiny"))
        journal.stand(replace(standing, sha256="1" * 64, original="0" * 64, intent=intent))
    assert run("undo", "kept").code == 0
    assert photo.read_bytes() == ORIGINAL


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["missing", "edited"])
def test_other_options_need_the_original(run, in_place, photo: Path, harm: str) -> None:
    in_place("photos")
    restored = photo.read_bytes()
    backup = Path("kept/a.jpg")
    backup.unlink()
    if harm == "edited":
        backup.write_bytes(jpeg(80))
    for options in ((), ("--again",)):
        told = in_place("photos", "--strength", 0.5, *options)
        assert "0 restored, 0 skipped, 1 failed" in told
        assert photo.read_bytes() == restored


@pytest.mark.slow
def test_a_second_backup_folder_keeps_what_the_first_run_made(run, in_place, photo: Path, model: Path) -> None:
    in_place("photos")
    restored = photo.read_bytes()
    elsewhere = ("photos", "--in-place", "--backup", "second", "--model", model)
    assert "1 skipped" in run(*elsewhere, "--strength", 0.5).err
    assert "1 restored" in run(*elsewhere, "--strength", 0.5, "--again").err
    assert run("undo", "kept").code == 3
    assert run("undo", "second").code == 0
    assert photo.read_bytes() == restored
    assert run("undo", "kept").code == 0
    assert photo.read_bytes() == ORIGINAL


def test_a_dry_run_in_place_says_which_photos_are_links(run, in_place, photo: Path) -> None:
    Path("photos/link.jpg").symlink_to("a.jpg")
    assert "1 would be restored, 0 skipped, 1 failed" in in_place("photos", "--dry-run")


@pytest.mark.slow
def test_undo_run_undo_with_other_options_each_time(run, in_place, photo: Path) -> None:
    for strength in (1.0, 0.5, 0.5):
        assert "1 restored" in in_place("photos", "--strength", strength)
        assert run("undo", "kept").code == 0
        assert photo.read_bytes() == ORIGINAL
        assert "0 originals put back, 0 failed" in run("undo", "kept").err


@pytest.mark.slow
def test_a_library_that_was_copied_away_is_undone_from_the_copy_of_its_backups(run, in_place, photo: Path) -> None:
    in_place("photos")
    restored = photo.read_bytes()
    Path("usb").mkdir()
    for name in ("photos", "kept"):
        shutil.copytree(name, Path("usb", name))
        Path(name).rename(f"{name}-away")
    assert run("undo", "usb/kept").code == 0
    assert Path("usb/photos/a.jpg").read_bytes() == ORIGINAL
    assert Path("photos-away/a.jpg").read_bytes() == restored


@pytest.mark.slow
@pytest.mark.parametrize("place", [("--in-place", "--backup", "kept"), ("-o", "kept")], ids=["in place", "beside"])
def test_the_journal_knows_what_is_about_to_appear(
    run, photo: Path, model: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[str, ...]
) -> None:
    write_atomically = outputs.write_atomically
    seen = []

    def looked_at(path: Path, data: bytes, **options: Any) -> None:
        if data != ORIGINAL:
            (standing,) = read_ledger(Path("kept")).standing.values()
            assert standing.intent is not None
            assert "QF" in standing.intent.reason
            seen.append((standing.sha256, standing.intent.sha256 == sha256(data), standing.intent.original))
        write_atomically(path, data, **options)

    monkeypatch.setattr(outputs, "write_atomically", looked_at)
    assert "1 restored" in run("photos", *place, "--model", model).err
    assert seen == [(None, True, sha256(ORIGINAL))]


@pytest.mark.slow
def test_a_redo_that_stops_before_the_rename_can_be_undone(
    run, in_place, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place("photos")
    restored = photo.read_bytes()
    write_atomically = outputs.write_atomically

    def refused(path: Path, data: bytes, **options: Any) -> None:
        if path == photo:
            raise PhotoError("no space left")
        write_atomically(path, data, **options)

    with monkeypatch.context() as patched:
        patched.setattr(outputs, "write_atomically", refused)
        assert "1 failed" in in_place("photos", "--strength", 0.5)
    assert photo.read_bytes() == restored
    assert run("undo", "kept").code == 0
    assert photo.read_bytes() == ORIGINAL


@pytest.mark.slow
def test_a_moved_photo_keeps_its_one_backup_when_it_is_done_again(run, in_place, photo: Path) -> None:
    in_place("photos")
    Path("photos/best").mkdir()
    moved = photo.rename("photos/best/mine.jpg")
    kept = sorted(path for path in Path("kept").rglob("*.jpg"))
    assert "1 restored" in in_place("photos", "--strength", 0.5)
    assert sorted(path for path in Path("kept").rglob("*.jpg")) == kept
    assert run("undo", "kept").code == 0
    assert moved.read_bytes() == ORIGINAL
    assert not photo.exists()


@pytest.mark.slow
def test_a_copy_of_library_and_backups_is_worked_on_for_itself(run, in_place, photo: Path, model: Path) -> None:
    in_place("photos")
    restored = photo.read_bytes()
    for name in ("photos", "kept"):
        shutil.copytree(name, Path("usb", name))
    again = ("usb/photos", "--in-place", "--backup", "usb/kept", "--model", model, "--strength", 0.5)
    assert "1 restored" in run(*again).err
    shutil.rmtree("usb")
    for name in ("photos", "kept"):
        shutil.copytree(name, Path("usb", name))
    assert run("undo", "usb/kept").code == 0
    assert Path("usb/photos/a.jpg").read_bytes() == ORIGINAL
    assert photo.read_bytes() == restored


def test_a_backup_that_is_exchanged_while_it_is_put_back_is_never_written(
    run, in_place, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compared with the original's digest are the very bytes that are written."""
    in_place("photos")
    read = outputs.read_whole

    def exchanged_afterwards(path: Path, **named: Any) -> Contents:
        found = read(path, **named)
        path.write_bytes(b"exchanged")
        return found

    monkeypatch.setattr(outputs, "read_whole", exchanged_afterwards)
    assert run("undo", "kept").code == 0
    assert photo.read_bytes() == ORIGINAL


def test_a_backup_of_a_killed_run_is_made_durable_before_it_is_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, kept = write(tmp_path / "a.jpg", b"first"), write(tmp_path / "kept/a.jpg", b"first")
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), fsync(handle)))
    outputs.keep_backup(kept, b"first", like=source)
    wanted = [kept.stat().st_ino, kept.parent.stat().st_ino]
    assert synced[-2:] == wanted


def test_a_backup_of_a_killed_run_that_the_disk_does_not_take_is_not_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, kept = write(tmp_path / "a.jpg", b"first"), write(tmp_path / "kept/a.jpg", b"first")
    fsync, number = os.fsync, kept.stat().st_ino

    def failing(handle: int) -> None:
        if os.fstat(handle).st_ino == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(PhotoError, match="durable"):
        outputs.keep_backup(kept, b"first", like=source)


@pytest.mark.slow
def test_a_copy_follows_its_source_also_after_a_failed_attempt(run, photo: Path, model: Path) -> None:
    arguments = ("photos", "--copy-skipped", "--min-qf", 1, "--model", model)
    good = [jpeg(95, image=scene(seed=seed)) for seed in (2, 3)]
    write(photo, good[0])
    run(*arguments)
    write(photo, good[1][:400])
    assert "1 failed" in run(*arguments).err
    write(photo, good[1])
    run(*arguments)
    assert Path("photos-restored/a.jpg").read_bytes() == good[1]


@pytest.mark.slow
def test_a_copy_is_not_taken_for_the_restored_picture(run, photo: Path, model: Path) -> None:
    copied = ("photos", "--copy-skipped", "--min-qf", 1, "--strength", 0.5, "--model", model)
    run("photos", "--model", model)
    restored = read_whole(Path("photos-restored/a.jpg")).data
    run(*copied)
    assert Path("photos-restored/a.jpg").read_bytes() == ORIGINAL
    assert "1 restored" in run("photos", "--model", model).err
    assert Path("photos-restored/a.jpg").read_bytes() == restored


@pytest.mark.slow
def test_a_copy_that_somebody_edited_stays_and_that_is_said(run, photo: Path, model: Path) -> None:
    arguments = ("photos", "--copy-skipped", "--min-qf", 1, "--model", model, "--format", "png", "-v")
    write(photo, jpeg(95))
    run(*arguments)
    edited = write(Path("photos-restored/a.jpg"), b"edited by hand")
    write(photo, jpeg(96))
    assert "not copied" in run(*arguments).err
    assert edited.read_bytes() == b"edited by hand"
    assert "not copied" not in run(*arguments, "--overwrite").err
    assert edited.read_bytes() == photo.read_bytes()
