"""The only way to read bytes from outside: files that other people named, sent or swapped.

A name says nothing about what is behind it, and that may be something else a moment later. So a file is opened without
blocking, its kind is checked on the descriptor, and no more is read than a limit allows.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from pathlib import Path
from typing import BinaryIO

DEFAULT_MAX_BYTES = 256_000_000
"""Larger files are refused unless the caller says otherwise; photos with an appended video have about 50 MB."""

LEASE_SECONDS = 5.0
"""How long a file server may take to get back a file that it has leased to a client."""

_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISLNK, "link"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


def open_regular(path: Path, *, follow: bool = True, max_bytes: int | None = None) -> io.FileIO:
    """Open a regular file for reading, unbuffered and without blocking.

    Args:
        path: from any source, trusted or not.
        follow: take a link's target; without, a link is refused.
        max_bytes: largest size that is accepted; None for any.

    Raises:
        OSError: it cannot be opened, is a pipe, a device or a folder, or is too large (``EFBIG``).
    """
    try:
        _check(path.stat() if follow else path.lstat(), max_bytes)  # opening a device may already move a tape
        handle = _open(path, follow)
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error)) from error
    try:
        _check(os.fstat(handle), max_bytes)
        return io.FileIO(handle)
    except BaseException:
        os.close(handle)
        raise


def read_at_most(file: BinaryIO, limit: int | None = None) -> bytes:
    """Read to the end of a file; a single read may return less than was asked for.

    Raises:
        OSError: ``EFBIG``, there are more bytes than the limit.
    """
    parts, size = [], 0
    while part := file.read(1 << 24):
        parts.append(part)
        size += len(part)
        if limit is not None and size > limit:
            raise _too_large(size, limit)
    return b"".join(parts)


def _open(path: Path, follow: bool) -> int:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
    flags |= 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    until = time.monotonic() + LEASE_SECONDS
    while True:
        try:
            return os.open(path, flags)
        except BlockingIOError:  # a lease, which the system is breaking
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _check(found: os.stat_result, max_bytes: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "thing of another kind")
        raise OSError(errno.EISDIR if kind == "folder" else errno.EINVAL, f"it is a {kind}, not a regular file")
    if max_bytes is not None and found.st_size > max_bytes:
        raise _too_large(found.st_size, max_bytes)


def _too_large(size: int, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"{size / 1e6:.0f} MB is over the limit of {limit / 1e6:g} MB")
