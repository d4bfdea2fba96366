"""Pipes and terminals that another program may have made non-blocking: reading and writing wait all the same."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import BinaryIO


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """What arrives at an unbuffered file, as it arrives, until its end.

    Raises:
        OSError: it cannot be read.
    """
    while (piece := file.read(1 << 16)) != b"":
        if piece is None:  # Nothing yet.
            select.select([file], [], [])
        else:
            yield piece


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write to an unbuffered file, which may take a part at a time.

    Raises:
        OSError: it cannot be written.
    """
    rest = memoryview(data)
    while rest:
        taken = file.write(rest)
        if taken is None:  # It is full.
            select.select([], [file], [])
        else:
            rest = rest[taken:]


def unbuffered(file: BinaryIO) -> BinaryIO:
    """The file behind a buffered one; a file without a buffer is its own."""
    raw: BinaryIO = getattr(file, "raw", file)
    return raw
