"""Who may read a file that shows or names other files: nobody who may not read those."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterable
from functools import cache, partial
from pathlib import Path

_READ, _ENTER = stat.S_IROTH, stat.S_IXOTH


def audience(shown: Iterable[Path], group: int) -> int:
    """Return the permissions that a new file may have at most.

    Folders count as well: a photo that all may read is private if its folder is. What is not there forbids nothing, but
    the folders that it would be in may.

    Args:
        shown: files that it shows or names.
        group: that it belongs to.
    """
    real_folder = cache(os.path.realpath)
    folders, allowed = set[Path](), 0o777
    for path in shown:
        real = Path(real_folder(path.parent), path.name)
        if os.path.islink(real):  # noqa: PTH114 - takes any path, also one that is too long
            real = Path(os.path.realpath(real))
        allowed &= _granted(real, _READ, group)
        folders.add(real.parent)
    for way in folders.union(*(folder.parents for folder in folders)):
        allowed &= _granted(way, _ENTER, group)
    return allowed


def create(path: Path, data: bytes, shown: Iterable[Path]) -> None:
    """Write a new file for those who may read what it shows; from the first byte on, nobody else can.

    Raises:
        OSError: the file exists, or the file system refuses.
    """
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb"
    ) as file:
        restrict(file.fileno(), shown)
        file.write(data)


def restrict(handle: int, shown: Iterable[Path]) -> None:
    """Give a new file the usual permissions, as far as those who get them may read what it shows.

    Raises:
        OSError: the file system refuses.
    """
    if hasattr(os, "fchmod"):
        os.fchmod(handle, 0o666 & ~_UMASK & audience(shown, os.fstat(handle).st_gid))


def narrow(paths: Iterable[Path], shown: Collection[Path] | None) -> None:
    """Take files from those who may not read what they name from now on; never give them to anybody.

    Nothing happens to what is not there, or belongs to somebody else.

    Args:
        shown: what they name; None if that must not be looked at, as only the owner may then read them.
    """
    allowed = cache(partial(audience, shown)) if shown is not None else lambda group: 0o700
    for path in paths:
        with contextlib.suppress(OSError):
            found = path.lstat()
            mode = stat.S_IMODE(found.st_mode)
            if stat.S_ISREG(found.st_mode) and mode & 0o077 and (less := mode & allowed(found.st_gid)) != mode:
                path.chmod(less)


def _granted(path: Path, right: int, group: int) -> int:
    """What a file or folder on the way grants to the members of a group, and to all others."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return 0o777
    except OSError:
        return 0o700
    members, others = bool(found.st_mode >> 3 & right), bool(found.st_mode & right)
    if found.st_gid != group:
        # Which of the new file's readers are in this group is not known.
        members = others = members and others
    return 0o700 | 0o070 * members | 0o007 * others


_UMASK = os.umask(0o077)
os.umask(_UMASK)
