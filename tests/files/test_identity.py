"""A file is what it is on the disk, whatever way it is spelt."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from codiff_batch.errors import PhotoError
from codiff_batch.files import identity
from codiff_batch.files.identity import Stamp, canonical, ignores_case, key_of, place_of, same_file
from codiff_batch.files.reading import read_whole
from tests.photos import write


def test_links_and_other_spellings_lead_to_the_same_file(tmp_path: Path) -> None:
    photo = write(tmp_path / "p/a.jpg", b"x")
    (tmp_path / "link").symlink_to("p")
    (tmp_path / "hard.jpg").hardlink_to(photo)
    for other in (tmp_path / "link/a.jpg", tmp_path / "p/../p/a.jpg", tmp_path / "hard.jpg"):
        assert same_file(photo, other)
    assert not same_file(photo, write(tmp_path / "copy.jpg", b"x"))
    assert not same_file(tmp_path / "gone", tmp_path / "gone")


def test_a_link_counts_as_itself_where_that_is_asked(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", b"x")
    (tmp_path / "link").symlink_to("a.jpg")
    assert key_of(tmp_path / "link") == key_of(tmp_path / "a.jpg")
    assert key_of(tmp_path / "link", follow=False) != key_of(tmp_path / "a.jpg")
    assert canonical(tmp_path / "link") == tmp_path.resolve() / "link"


def test_places_that_do_not_exist_yet_can_be_compared(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert place_of(tmp_path / "real/new/a.jpg") == place_of(tmp_path / "link/new/a.jpg")
    assert place_of(tmp_path / "real/new/a.jpg") != place_of(tmp_path / "real/new/A.jpg")
    assert place_of(tmp_path / "real/a.jpg") != place_of(tmp_path / "real/b.jpg")


def test_a_disk_that_ignores_case_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stood in for by looking names up in lower case, as such a disk does."""
    write(tmp_path / "photos/img.jpg", b"x")
    assert not ignores_case(tmp_path / "photos")
    look = identity.key_of
    monkeypatch.setattr(identity, "key_of", lambda path, **follow: look(path.with_name(path.name.lower()), **follow))
    identity._ignores_case.cache_clear()
    assert ignores_case(tmp_path / "photos")
    assert place_of(tmp_path / "photos/NEW.JPG") == place_of(tmp_path / "photos/new.jpg")
    identity._ignores_case.cache_clear()


def test_an_empty_disk_is_asked_again_once_there_is_something_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder on another disk than its parent, whose names are looked up in lower case."""
    disk = tmp_path / "disk"
    disk.mkdir()
    look, number = identity.key_of, Path.stat

    def key_of(path: Path, **follow: bool) -> identity.FileKey | None:
        return look(path.with_name(path.name.lower()) if path.parent == disk else path, **follow)

    monkeypatch.setattr(identity, "key_of", key_of)
    other = SimpleNamespace(st_dev=-1)
    monkeypatch.setattr(Path, "stat", lambda path, **how: other if path == tmp_path else number(path, **how))
    assert place_of(disk / "IMG.jpg") != place_of(disk / "img.jpg")
    write(disk / "mark", b"x")
    assert place_of(disk / "IMG.jpg") == place_of(disk / "img.jpg")


def test_a_stamp_changes_with_every_kind_of_edit(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"one")
    os.utime(photo, ns=(0, 10**18 + 1))
    first = Stamp.of(photo.stat())
    seen = {first}
    for change in (
        lambda: photo.write_bytes(b"longer"),
        lambda: os.utime(photo, ns=(0, 10**18 + 2)),
        lambda: write(tmp_path / "b", b"longer").replace(photo),
    ):
        change()
        seen.add(Stamp.of(photo.stat()))
    assert len(seen) == 4
    assert not first.unchanged(Stamp.of(photo.stat()))
    assert first.unchanged(Stamp(*(first.size, first.mtime_ns, first.ctime_ns, first.inode), device=first.device + 1))


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_each_part_of_a_stamp_counts(field: str) -> None:
    from dataclasses import replace

    stamp = Stamp(1, 2, 3, 4, 5)
    assert not stamp.unchanged(replace(stamp, **{field: 9}))


def test_only_regular_files_are_read_and_nothing_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "link", tmp_path / "loop", Path("/dev/zero")):
        with pytest.raises(PhotoError, match="cannot be read"):
            read_whole(path)
    write(tmp_path / "a.jpg", b"x")
    (tmp_path / "to a").symlink_to("a.jpg")
    assert read_whole(tmp_path / "to a").data == b"x"
    with pytest.raises(PhotoError):
        read_whole(tmp_path / "to a", follow=False)
