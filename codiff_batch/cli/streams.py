"""Standard streams that cannot stop the work, even if they are closed, on a full disk, or a pipe without a reader."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO, TextIO

from codiff_batch.errors import FolderUnavailable
from codiff_batch.files.pipes import unbuffered, write_all


class NobodyReads(Exception):
    """The reader of standard output is gone, as with ``| head``."""


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Make the standard streams safe to write to while a command runs.

    Stderr only tells a person about the work, so if it cannot be written, the work goes on without it. Stdout has what
    the user asked for, so there a failure ends the command.

    Raises:
        NobodyReads: the reader of stdout is gone.
        FolderUnavailable: stdout cannot be written for another reason.
    """
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    safe = _text(_Results(before[0])), _text(_Words(before[1]))
    sys.stdout, sys.stderr = safe
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            _flush(stream)


def _open_closed_descriptors() -> None:
    """Open /dev/null for each closed standard stream, before one of our files gets its number and receives messages."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest free number, which is this one.


def _flush(stream: TextIO | None) -> None:
    """Flush now, or drop what cannot be written, so that the interpreter's own flush at exit does not fail."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _text(binary: _Through) -> TextIO:
    return io.TextIOWrapper(binary, binary.encoding, "backslashreplace", write_through=True)  # type: ignore[type-var]


class _Through(io.RawIOBase):
    """Passes bytes on at once to a standard stream, which stays open when this is closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._target: BinaryIO | None = None if stream is None else unbuffered(stream.buffer)
        self.encoding = "utf-8" if stream is None else stream.encoding

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._target is not None and not self._target.closed and self._target.isatty()

    def fileno(self) -> int:
        if self._target is None:
            raise io.UnsupportedOperation("closed when the program was started")
        return self._target.fileno()

    def _hand_on(self, data: bytes) -> None:
        if self._target is not None:
            write_all(self._target, data)


class _Results(_Through):
    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            self._hand_on(data)
        except BrokenPipeError:
            raise NobodyReads from None
        except OSError as error:
            raise FolderUnavailable(f"cannot write to standard output: {error.strerror or error}") from None
        return len(data)


class _Words(_Through):
    def write(self, data: bytes) -> int:  # type: ignore[override]
        with contextlib.suppress(OSError):
            self._hand_on(data)
        return len(data)
