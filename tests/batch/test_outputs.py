"""Outputs appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codiff_batch.batch.outputs import keep_backup, sweep
from codiff_batch.errors import BackupUnfit, OutputExists, PhotoError
from codiff_batch.files.atomic import write_atomically
from tests.photos import write


def test_an_existing_file_is_only_replaced_when_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", b"old")
    with pytest.raises(OutputExists):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputExists):
        write_atomically(tmp_path / "a.jpg", b"new")


def test_times_and_mode_are_those_of_the_source(tmp_path: Path) -> None:
    source = write(tmp_path / "source.jpg", b"x")
    source.chmod(0o640)
    os.utime(source, ns=(1_000_000_000_000_000_001, 1_100_000_000_000_000_002))
    write_atomically(tmp_path / "deep/out.jpg", b"y", like=source)
    found = (tmp_path / "deep/out.jpg").stat()
    assert found.st_mode & 0o777 == 0o640
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_000_000_000_001, 1_100_000_000_000_000_002)
    (tmp_path / "link.jpg").symlink_to(source)
    write_atomically(tmp_path / "out2.jpg", b"y", like=tmp_path / "link.jpg")
    found = (tmp_path / "out2.jpg").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o640, 1_100_000_000_000_000_002)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a write beyond this fails as on a full disk
    try:
        with pytest.raises(PhotoError, match="cannot write"):
            write_atomically(tmp_path / "a.jpg", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    write(tmp_path / "file", b"x")
    with pytest.raises(PhotoError, match="cannot write"):
        write_atomically(tmp_path / "file/a.jpg", b"x")


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".jpg")
    write_atomically(path, b"x")
    assert path.read_bytes() == b"x"


def test_a_backup_is_never_replaced_by_another_picture(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jpg", b"first")
    keep_backup(tmp_path / "b/a.jpg", b"first", like=source)
    keep_backup(tmp_path / "b/a.jpg", b"first", like=source)
    with pytest.raises(BackupUnfit, match="another picture"):
        keep_backup(tmp_path / "b/a.jpg", b"second", like=source)
    assert (tmp_path / "b/a.jpg").read_bytes() == b"first"


def test_only_what_ones_own_killed_run_left_is_swept(tmp_path: Path) -> None:
    mine = write(tmp_path / "a/.codiff-batch-1-of-2-abc.tmp", b"half")
    others = [write(tmp_path / f"a/.codiff-batch-{owner}-abc.tmp", b"half") for owner in ("1-of-20", "all", "undo")]
    photo = write(tmp_path / "a/1-of-2-abc.tmp.jpg", b"x")
    assert sweep([tmp_path / "a", tmp_path / "not there"], "1-of-2") == 1
    assert not mine.exists()
    assert all(path.exists() for path in (*others, photo))
