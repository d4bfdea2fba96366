"""Which file a path means, however it is spelled: by device and inode, never by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

MARK_FOLDER = ".codiff-batch"
"""Holds the journal of an output or backup folder; hidden, so that a scan passes over it."""


class FileKey(NamedTuple):
    """One file or folder of this machine; links, bind mounts and other spellings of its name have the same key."""

    device: int
    inode: int


Place: TypeAlias = tuple[FileKey | None, tuple[str, ...]]
"""A file that may not exist yet: the nearest folder that does, and the names below it."""


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written to or replaced.

    The change time is part of it because programs can set a file's other times back, but never this one.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """From what the system says of a file."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)

    def unchanged(self, later: Stamp) -> bool:
        """Return True if a file that was stamped so is still the same; disks may get another number at each mount."""
        ctime = self.ctime_ns or later.ctime_ns  # Version 0.1 did not keep it.
        return (self.size, self.mtime_ns, ctime, self.inode) == (
            *(later.size, later.mtime_ns, later.ctime_ns, later.inode),
        )


def key_of(path: Path, *, follow: bool = True) -> FileKey | None:
    """The file at a path, or None if there is none; with ``follow=False`` a link counts as itself."""
    try:
        found = path.stat() if follow else path.lstat()
    except (OSError, ValueError):
        return None
    return FileKey(found.st_dev, found.st_ino)


def real(path: Path) -> Path:
    """A path in full with all links followed, as far as they lead anywhere: unlike Path.resolve, also in a circle."""
    return Path(os.path.realpath(path))


def canonical(path: Path) -> Path:
    """A path spelled in full, with links followed except one at its end: for records, not for comparing."""
    return real(path.parent) / path.name


def seen_from(folder: Path, path: Path) -> Path:
    """A path relative to a folder, for disks that carry both and are mounted elsewhere."""
    return Path(os.path.relpath(canonical(path), real(folder)))


def mount_of(path: Path) -> Path:
    """Where the disk of a file or folder, links followed, is mounted."""
    resolved = real(path)
    return next(above for above in (resolved, *resolved.parents) if os.path.ismount(above))


def same_file(one: Path, other: Path) -> bool:
    """Return True if both paths lead to one existing file."""
    key = key_of(one)
    return key is not None and key == key_of(other)


def shows(folder: Path, made: Path) -> bool:
    """Return True if a file that was just made under a random name is seen in a folder: it lies in that folder.

    Device and inode tell nothing where one folder is mounted twice, as network shares can be.
    """
    return os.path.lexists(folder / made.name)


def folders_above(path: Path) -> Iterator[Path]:
    """The existing folders above a path, links followed, from the nearest to the root."""
    for folder in path.absolute().parents:
        if key_of(folder) is not None:  # Path.exists would raise where a folder on the way may not be entered.
            yield from (real(folder), *real(folder).parents)
            return


def place_of(path: Path) -> Place:
    """A key that is equal for equal places, existing or not, also if names differ in case and the disk ignores case.

    A link at the end of the path is a place of its own.
    """
    folder = path.absolute().parent
    names = [path.name]
    while key_of(folder) is None and folder.name:
        names.append(folder.name)
        folder = folder.parent
    if ignores_case(folder):
        names = [name.casefold() for name in names]
    return key_of(folder), tuple(reversed(names))


def ignores_case(folder: Path) -> bool:
    """Return True if names in an existing folder mean the same file in upper and lower case.

    An empty folder is taken to be like its parent.
    """
    key = key_of(folder)
    try:
        return key is not None and _ignores_case(real(folder), key)
    except OSError:
        return False


@lru_cache(maxsize=256)
def _ignores_case(folder: Path, key: FileKey) -> bool:
    """What holds for good.

    Raises:
        OSError: nothing tells, which may change: a disk is empty until the first file is on it.
    """
    with os.scandir(folder) as entries:
        name = next((entry.name for entry in entries if entry.name.swapcase() != entry.name), None)
    if name is not None:
        path = folder / name
    elif folder.name and folder.parent.stat().st_dev == key.device:
        path = folder
    else:
        raise FileNotFoundError(folder)
    other = key_of(path.with_name(path.name.swapcase()), follow=False)
    return other is not None and other == key_of(path, follow=False)
