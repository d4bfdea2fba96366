"""Reads files whole: without blocking, regular files only, with what tells later whether they changed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from codiff_batch.errors import PhotoError
from codiff_batch.files.identity import FileKey, Stamp, is_regular


@dataclass(frozen=True)
class Contents:
    """A file's bytes, and what the system said of it when they were read."""

    data: bytes
    stamp: Stamp

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of the bytes."""
        return sha256(self.data)

    @property
    def key(self) -> FileKey:
        """Which file it was."""
        return FileKey(self.stamp.device, self.stamp.inode)


def read_whole(path: Path, *, follow: bool = True) -> Contents:
    """Read a file.

    Args:
        follow: take a link's target; without, a link is refused.

    Raises:
        PhotoError: it cannot be read, or is no regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    except (OSError, ValueError) as error:
        raise PhotoError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        found = os.fstat(handle)
        if not is_regular(found):
            raise PhotoError("cannot be read: not a regular file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return Contents(file.read(), Stamp.of(found))
    except OSError as error:
        raise PhotoError(f"cannot be read: {error.strerror or error}") from error
    finally:
        os.close(handle)


def stamp_of(path: Path, *, follow: bool = True) -> Stamp:
    """Look at a file.

    Raises:
        PhotoError: there is no such file any more, or it may not be looked at.
    """
    try:
        return Stamp.of(path.stat() if follow else path.lstat())
    except (OSError, ValueError) as error:
        raise PhotoError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def sha256(data: bytes) -> str:
    """Hexadecimal digest of bytes in memory."""
    return hashlib.sha256(data).hexdigest()
