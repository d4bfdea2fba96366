"""Files appear whole or not at all, with the attributes of their source, and nobody can exchange them on the way."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest

from codiff_batch.errors import OutputExists, PhotoError
from codiff_batch.files import atomic
from codiff_batch.files.atomic import make_durable, make_folders, write_atomically
from tests.photos import write


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_get_the_modes_of_those_that_the_source_lies_in(tmp_path: Path) -> None:
    source = write(tmp_path / "p/private/deep/a.jpg", b"x")
    for folder, bits in (("p", 0o750), ("p/private", 0o700), ("p/private/deep", 0o2711)):
        (tmp_path / folder).chmod(bits)
    write_atomically(tmp_path / "out/private/deep/a.jpg", b"y", like=source)
    modes = [mode(tmp_path / "out" / folder) for folder in ("", "private", "private/deep")]
    assert modes == [0o750, 0o700, 0o711]


def test_a_folder_that_is_made_can_be_written_to_whatever_its_model_allows(tmp_path: Path) -> None:
    source = write(tmp_path / "p/a.jpg", b"x")
    (tmp_path / "p").chmod(0o555)
    write_atomically(tmp_path / "out/a.jpg", b"y", like=source)
    assert mode(tmp_path / "out") == 0o755
    (tmp_path / "p").chmod(0o755)


def test_mode_and_times_are_on_the_disk_as_the_bytes_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.jpg", b"x")
    source.chmod(0o640)
    os.utime(source, ns=(1, 2))
    synced = []
    fsync = os.fsync
    out = tmp_path / "out.jpg"

    def noted(handle: int) -> None:
        synced.append((os.fstat(handle), out.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(out, b"y" * 100, like=source)
    (file, has_appeared), *_ = synced
    assert not has_appeared
    assert (stat.S_IMODE(file.st_mode), file.st_mtime_ns, file.st_size) == (0o640, 2, 100)


def test_special_bits_and_rights_are_not_copied_but_notes_are(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jpg", b"x")
    source.chmod(0o6755)
    try:
        os.setxattr(source, "user.rating", b"5")
    except OSError:
        pytest.skip("no extended attributes here")
    write_atomically(tmp_path / "out.jpg", b"y", like=source)
    assert mode(tmp_path / "out.jpg") == 0o755
    assert os.getxattr(tmp_path / "out.jpg", "user.rating") == b"5"


def test_rights_in_attributes_are_never_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(os, "listxattr", lambda path: ["security.capability", "system.posix_acl_access", "user.x"])
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"v")
    monkeypatch.setattr(os, "setxattr", lambda handle, name, value: written.append((type(handle), name)))
    write_atomically(tmp_path / "out.jpg", b"y", like=write(tmp_path / "a.jpg", b"x"))
    assert written == [(int, "user.x")]


def test_what_a_file_system_refuses_is_said_once_and_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for name in ("fchmod", "utime", "setxattr"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(os, "listxattr", lambda path: ["user.x"])
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"v")
    atomic._said.clear()
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            write_atomically(tmp_path / f"{number}.jpg", b"y", like=write(tmp_path / "a.jpg", b"x"))
    assert (tmp_path / "2.jpg").read_bytes() == b"y"
    assert sorted(record.getMessage().split(" cannot")[0] for record in caplog.records) == [
        "extended attributes",
        "permissions",
        "times",
    ]
    atomic._said.clear()


@pytest.mark.parametrize("data", [b"root only", b"y"], ids=["other bytes", "the same bytes"])
def test_attributes_are_set_on_the_file_itself_never_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """Somebody who may write to the folder exchanges the temporary file for a link to another file of ours."""
    secret = write(tmp_path / "secret", data)
    secret.chmod(0o600)
    source = write(tmp_path / "up/a.jpg", b"x")
    source.chmod(0o666)
    resemble = atomic._resemble

    def exchanged(handle: int, like: Path | None, shown: Iterable[Path]) -> None:
        (temporary,) = (tmp_path / "up").glob(".codiff-batch-*")
        temporary.unlink()
        temporary.symlink_to(secret)
        resemble(handle, like, shown)

    monkeypatch.setattr(atomic, "_resemble", exchanged)
    for overwrite in (False, True):
        with pytest.raises(PhotoError, match=r"replaced|regular|read"):
            write_atomically(tmp_path / f"up/out-{overwrite}.jpg", b"y", like=source, overwrite=overwrite)
    assert (mode(secret), secret.read_bytes()) == (0o600, data)


def test_the_guard_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jpg", b"old")
    seen: list[list[str]] = []
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr("os.fsync", lambda handle: (fsync(handle), synced.append(os.fstat(handle).st_ino)))

    def guard(temporary: Path) -> None:
        assert synced == [temporary.stat().st_ino]  # syncing may take long; what the guard has seen would be old
        seen.append(sorted(re.sub(r"one-.*\.tmp", "one-*.tmp", p.name) for p in tmp_path.iterdir()))
        raise PhotoError("not now")

    with pytest.raises(PhotoError, match="not now"):
        write_atomically(path, b"new", overwrite=True, guard=guard)
    assert path.read_bytes() == b"old"
    # Beside the final name, not on another disk, where a rename would be a copy.
    assert seen == [[".codiff-batch-one-*.tmp", "a.jpg"]]
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize(("number", "fails"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_only_a_file_system_that_has_no_folder_sync_is_forgiven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
) -> None:
    fsync = os.fsync

    def of_folders(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", of_folders)
    if fails:
        with pytest.raises(PhotoError, match="Input/output"):
            write_atomically(tmp_path / "a.jpg", b"x")
    else:
        write_atomically(tmp_path / "a.jpg", b"x")


def test_new_folders_are_on_the_disk_before_anything_is_put_into_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, list[str]]] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            synced.append((path.name, sorted(p.name for p in path.iterdir())))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(tmp_path / "a/b/photo.jpg", b"x")
    above = tmp_path.name
    assert [name for name, _ in synced] == [above, "a", "b"]
    assert synced[1][1] == ["b"]
    assert "photo.jpg" in synced[2][1]


def test_without_hard_links_a_name_that_is_taken_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    write_atomically(tmp_path / "a.jpg", b"one")
    with pytest.raises(OutputExists):
        write_atomically(tmp_path / "a.jpg", b"two")
    (tmp_path / "b.jpg").symlink_to("gone")
    with pytest.raises(OutputExists):
        write_atomically(tmp_path / "b.jpg", b"two")
    assert (tmp_path / "a.jpg").read_bytes() == b"one"


def test_where_there_are_hard_links_nothing_is_renamed_to_a_name_that_was_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename would replace what appears in the meantime."""
    monkeypatch.setattr(Path, "rename", lambda path, target: pytest.fail("renamed"))
    write_atomically(tmp_path / "a.jpg", b"one")
    assert (tmp_path / "a.jpg").read_bytes() == b"one"


def test_files_of_our_own_get_the_usual_mode(tmp_path: Path) -> None:
    write_atomically(tmp_path / "r.json", b"{}")
    write(tmp_path / "usual", b"")
    assert mode(tmp_path / "r.json") == mode(tmp_path / "usual")


def test_folders_are_made_once_by_whoever_is_first(tmp_path: Path) -> None:
    make_folders(tmp_path / "a/b/c")
    make_folders(tmp_path / "a/b/c")
    write(tmp_path / "file", b"")
    with pytest.raises(OSError):
        make_folders(tmp_path / "file/x")


def test_a_folder_that_another_process_makes_at_the_same_moment_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "like").mkdir(mode=0o700)
    mkdir = Path.mkdir

    def second(self: Path) -> None:
        mkdir(self, mode=0o755)
        mkdir(self)

    monkeypatch.setattr(Path, "mkdir", second)
    make_folders(tmp_path / "a/b", like=tmp_path / "like")
    assert mode(tmp_path / "a/b") == mode(tmp_path / "a")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted as Linux shows them")
@pytest.mark.parametrize("refused", [None, errno.EINVAL, errno.EIO], ids=["synced", "no folder sync", "disk error"])
def test_nothing_stays_open_whatever_the_disk_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int | None
) -> None:
    """A batch of a hundred thousand photos would run out of descriptors otherwise."""
    fsync = os.fsync

    def of_folders(handle: int) -> None:
        if refused and stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(refused, os.strerror(refused))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", of_folders)
    before = sorted(Path("/proc/self/fd").iterdir())
    for name in ("a.jpg", "new/b.jpg", "a.jpg"):
        with contextlib.suppress(PhotoError):
            write_atomically(tmp_path / name, b"x")
        with contextlib.suppress(PhotoError):
            make_durable(tmp_path / "a.jpg")
    assert sorted(Path("/proc/self/fd").iterdir()) == before
