"""When to scan the watched folders: on events where the system sends them, and at regular intervals in any case."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from codiff_batch.watch.eyes import Eyes, raises_no_events

log = logging.getLogger(__name__)

POLL_SECONDS = 10.0
"""Between two scans where there are no events."""


class Lookout:
    """Watches several folders through their :class:`Eyes`, and knows when the next scan is due."""

    def __init__(self, folders: Sequence[Path], rescan: float, *, polling: bool, once: bool = False) -> None:
        """Begin.

        Args:
            folders: to watch.
            rescan: seconds between scans where there are events as well.
            polling: use no events.
            once: nobody will wait for files that arrive later.
        """
        self._folders, self._rescan = folders, rescan
        seen = [] if polling else [folder for folder in folders if not raises_no_events(folder)]
        self._blind = len(seen) < len(folders)
        self._eyes = {folder: Eyes(folder) for folder in seen}
        self._limited = False
        self._scanned = self._tried = time.monotonic()

    def __enter__(self) -> Lookout:
        for eyes in self._eyes.values():
            eyes.__enter__()
        self._fall_back()
        how = f"scanned every {self._every:g} s" if self._blind or self._limited else "by events"
        for folder in self._folders:
            log.info("watching %s, %s", folder, how)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for eyes in self._eyes.values():
            eyes.__exit__(kind, error, traceback)

    @property
    def _every(self) -> float:
        return min(self._rescan, POLL_SECONDS) if self._blind or self._limited else self._rescan

    def hints(self) -> Iterator[Path]:
        """Files to check, since the last call."""
        for eyes in self._eyes.values():
            yield from eyes.hints()

    def scanned(self) -> None:
        """Note that all folders have just been scanned."""
        self._scanned = time.monotonic()

    def needs_scan(self) -> bool:
        """Return True if a scan is due: it is time, events were lost, or an observer died and was restarted."""
        self._fall_back()
        wanted = time.monotonic() - self._scanned >= self._every
        for folder, eyes in self._eyes.items():
            wanted |= self._look_again(folder, eyes)
        return wanted

    def _look_again(self, folder: Path, eyes: Eyes) -> bool:
        if self._limited:
            return False
        if not eyes.see():
            if not folder.is_dir():
                return False  # An unplugged disk; it may come back.
            opened = eyes.open()
            if opened:
                log.warning("the observer of %s had stopped; restarted it", folder)
            return opened
        if eyes.lost_some():
            log.warning("events were lost; scanning %s", folder)
            return True
        return False

    def _fall_back(self) -> None:
        """Fall back to scanning where the system allows no more watches; try events again at each rescan."""
        blind = next((eyes.blind for eyes in self._eyes.values() if eyes.blind), None)
        if not self._limited and blind:
            self._limited, self._tried = True, time.monotonic()
            for eyes in self._eyes.values():
                eyes.close()
            log.warning("cannot watch all folders by events (%s); scanning every %g s instead", blind, self._every)
        elif self._limited and time.monotonic() - self._tried >= self._rescan:
            self._tried = time.monotonic()
            if all(eyes.open() and not eyes.blind for eyes in self._eyes.values()):
                self._limited = False
                log.info("watching by events again")
            else:
                for eyes in self._eyes.values():
                    eyes.close()
