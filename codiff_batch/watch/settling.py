"""Tells when a file is complete: it has not changed for a while. No threads and no clock of its own."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from codiff_batch.files.identity import Stamp


@dataclass
class _Arrival:
    identity: Stamp | None
    since: float


class Settling:
    """Files that are still arriving.

    Times are in seconds, from any clock that never goes back.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._arriving: dict[Path, _Arrival] = {}

    def __len__(self) -> int:
        return len(self._arriving)

    def touch(self, path: Path, now: float) -> None:
        """Note that something happened to a file, and start waiting again."""
        self._arriving[path] = _Arrival(_look(path), now)

    def found(self, path: Path, now: float) -> None:
        """Note a file that a scan found; nothing changes if it is already waited for, as after an earlier scan."""
        if path not in self._arriving:
            self.touch(path, now)

    def ready(self, now: float) -> list[Path]:
        """Take out the files that have not changed for long enough; forget those that are gone or not files."""
        ready = []
        for path, arrival in list(self._arriving.items()):
            identity = _look(path)
            if identity is None:
                del self._arriving[path]
            elif identity != arrival.identity:
                self._arriving[path] = _Arrival(identity, now)
            elif now - arrival.since >= self._seconds:
                del self._arriving[path]
                ready.append(path)
        return ready


def _look(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp.of(found) if stat.S_ISREG(found.st_mode) else None
