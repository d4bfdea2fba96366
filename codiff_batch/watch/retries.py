"""Photos that failed for a temporary reason, and when to retry them."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

FIRST_PAUSE = 5.0
"""Seconds until a photo is retried; each pause is twice as long as the one before."""

LONGEST_PAUSE = 3600.0

_PASSING_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    *(errno.EIO, errno.ESTALE, errno.EBUSY, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN),
    *(errno.EAGAIN, errno.ENODEV, errno.ENXIO, errno.ENETDOWN, errno.ENETUNREACH),
)
_PASSING = (*(os.strerror(number) for number in _PASSING_ERRORS), "out of memory", "MemoryError", "is full", "locked")


def passes(reason: str) -> bool:
    """Return True if a photo that failed for this reason may succeed later without being changed."""
    return any(words.lower() in reason.lower() for words in _PASSING)


@dataclass
class _Retry:
    at: float
    pause: float


class Retries:
    """Growing pauses for each photo. Times are in seconds, from any clock that never goes back."""

    def __init__(self) -> None:
        self._waiting: dict[Path, _Retry] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def failed(self, path: Path, now: float) -> None:
        """Schedule a retry for a photo, after a longer pause than the last."""
        earlier = self._waiting.get(path)
        pause = FIRST_PAUSE if earlier is None else min(2 * earlier.pause, LONGEST_PAUSE)
        self._waiting[path] = _Retry(now + pause, pause)

    def settled(self, path: Path) -> None:
        """Forget a photo that needs no retry."""
        self._waiting.pop(path, None)

    def due(self, now: float) -> list[Path]:
        """The photos whose pause is over; each is returned once per failure."""
        due = [path for path, retry in self._waiting.items() if retry.at <= now]
        for path in due:
            self._waiting[path].at = float("inf")
        return due
