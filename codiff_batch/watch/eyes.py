"""Events of a folder as hints, by watchdog: which files to look at, and whether hints were lost."""

from __future__ import annotations

import logging
import queue
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

log = logging.getLogger(__name__)

NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse", "9p", "afs", "afpfs", "webdav", "davfs", "glusterfs", "ceph")
"""Starts of the names of file systems where another machine's writes raise no event."""

HINTS = 100_000
"""Paths that are kept between two looks; beyond, the folder is scanned instead."""


def raises_no_events(folder: Path) -> bool:
    """Whether a folder lies on a file system whose changes have to be polled for."""
    path = folder.resolve()
    mounts = [p for p in psutil.disk_partitions(all=True) if path.is_relative_to(p.mountpoint)]
    kind = max(mounts, key=lambda p: len(p.mountpoint)).fstype if mounts else ""
    return kind.lower().startswith(NETWORK_FILE_SYSTEMS)


class Eyes:
    """A watchdog observer that can be asked whether it still sees.

    The observer's thread only puts paths into a queue: an exception in it would end it, and the process would go on
    blind.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hints: queue.Queue[Path] = queue.Queue(HINTS)
        self._lost = threading.Event()
        self._observer: Any = None
        self._inode = 0
        self._overflow = _OverflowListener(self._lost)

    def __enter__(self) -> Eyes:
        # There is no callback for it: watchdog says in its log that the kernel's queue has overflowed.
        logging.getLogger("watchdog.observers").addHandler(self._overflow)
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        logging.getLogger("watchdog.observers").removeHandler(self._overflow)

    def open(self) -> bool:
        """Begin to watch, again if need be; tell whether that was possible."""
        self.close()
        observer = Observer()
        wanted: list[type[FileSystemEvent]] = [FileCreatedEvent, FileClosedEvent, FileMovedEvent]
        try:
            self._inode = self._folder.stat().st_ino
            observer.schedule(_Handler(self._hints, self._lost), str(self._folder), recursive=True, event_filter=wanted)
            observer.start()
        except (OSError, RuntimeError) as error:
            log.warning("cannot watch %s: %s; it is scanned instead", self._folder, error)
            return False
        self._observer = observer
        return True

    def close(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def see(self) -> bool:
        """Whether the observer's threads live, and it is this folder they look at rather than one that is gone."""
        observer = self._observer
        if observer is None or not observer.is_alive() or not all(e.is_alive() for e in observer.emitters):
            return False
        try:
            return self._folder.stat().st_ino == self._inode
        except OSError:
            return False

    def hints(self) -> set[Path]:
        """Files to look at, since the last call."""
        paths = set()
        while True:
            try:
                paths.add(self._hints.get_nowait())
            except queue.Empty:
                return paths

    def lost_some(self) -> bool:
        """Whether hints were lost since the last call, so that the folder has to be scanned."""
        lost = self._lost.is_set()
        self._lost.clear()
        return lost


class _Handler(FileSystemEventHandler):
    def __init__(self, hints: queue.Queue[Path], lost: threading.Event) -> None:
        self._hints, self._lost = hints, lost

    def on_any_event(self, event: FileSystemEvent) -> None:
        try:
            path = event.dest_path or event.src_path
            self._hints.put_nowait(Path(path if isinstance(path, str) else path.decode()))
        except Exception:
            self._lost.set()


class _OverflowListener(logging.Handler):
    def __init__(self, lost: threading.Event) -> None:
        super().__init__(logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage():
            self._lost.set()
