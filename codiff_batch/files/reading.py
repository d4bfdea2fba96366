"""Reads whole files, with what is needed to tell later whether they changed."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import psutil

from codiff_batch.errors import PhotoError, TooManyBytes
from codiff_batch.files.identity import FileKey, Stamp
from codiff_batch.files.opening import open_regular, read_at_most


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


def read_whole(path: Path, *, follow: bool = True, max_bytes: int | None = None) -> Contents:
    """Read a regular file, without ever blocking.

    Args:
        follow: take a link's target; without, a link is refused.
        max_bytes: largest size that is read; None where the file should be our own, for any that memory holds well:
            somebody may have put another in its place.

    Raises:
        TooManyBytes: it is larger than ``max_bytes``; nothing was read.
        PhotoError: it cannot be read, or is not a regular file.
    """
    limit = _largest_of_ours() if max_bytes is None else max_bytes
    try:
        with open_regular(path, follow=follow, max_bytes=limit) as file:
            return Contents(read_at_most(file, limit), Stamp.of(os.fstat(file.fileno())))
    except OSError as error:
        if error.errno == errno.EFBIG and max_bytes is not None:
            raise TooManyBytes(f"{error.strerror}") from error
        raise PhotoError(f"cannot be read: {error.strerror or error}") from error


@cache
def _largest_of_ours() -> int:
    """Bytes. A photo takes several times its file's size while it is restored, so nothing of ours is larger."""
    memory: int = psutil.virtual_memory().total
    return max(2_000_000_000, memory // 4)


def digest_of(path: Path) -> str | None:
    """Digest of a regular file's bytes; None for a link, for anything else, and where there is nothing to read."""
    try:
        return read_whole(path, follow=False).sha256
    except PhotoError:
        return None


def stamp_of(path: Path, *, follow: bool = True) -> Stamp:
    """Look at a file.

    Raises:
        PhotoError: the file no longer exists, or may not be looked at.
    """
    try:
        return Stamp.of(path.stat() if follow else path.lstat())
    except (OSError, ValueError) as error:
        raise PhotoError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def sha256(data: bytes) -> str:
    """Hexadecimal digest of bytes in memory."""
    return hashlib.sha256(data).hexdigest()
