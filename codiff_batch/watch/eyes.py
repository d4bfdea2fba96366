"""Events of a folder as hints, through watchdog: which files to check, and whether hints were lost."""

from __future__ import annotations

import errno
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
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

from codiff_batch.files.identity import FileKey, key_of, real

log = logging.getLogger(__name__)

NETWORK_FILE_SYSTEMS = (
    "nfs",
    "cifs",
    "smb",
    "fuse",
    "9p",
    "afs",
    "afpfs",
    "webdav",
    "davfs",
    "glusterfs",
    "ceph",
    "autofs",
)
"""Prefixes of the names of file systems on which another machine's writes raise no event; autofs turns into one."""

HINTS = 100_000
"""Paths that are kept between two checks; if there are more, the folder is scanned instead."""


def raises_no_events(folder: Path) -> bool:
    """Return True if a folder lies on a file system whose changes have to be polled for."""
    path = real(folder)
    mounts = [p for p in psutil.disk_partitions(all=True) if path.is_relative_to(p.mountpoint)]
    # Of several at one place, the last one listed is what is seen: a share lies on the autofs that mounted it.
    kind = max(reversed(mounts), key=lambda p: len(p.mountpoint)).fstype if mounts else ""
    return kind.lower().startswith(NETWORK_FILE_SYSTEMS)


class Eyes:
    """A watchdog observer that can be asked whether it still works.

    The observer's thread only puts paths into a queue: an exception would end the thread, and the process would go on
    without events.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare to watch a folder; if it is a link, its target is watched."""
        self._folder = folder
        self._hints: queue.Queue[Path] = queue.Queue(HINTS)
        self._lost = threading.Event()
        self.blind = ""
        """Why some existing folders are not watched; empty if all are."""
        self._observer: Any = None
        self._key: FileKey | None = None
        self._overflow = _OverflowListener(self._lost)

    def __enter__(self) -> Eyes:
        # There is no callback for this: watchdog only logs that the kernel's queue has overflowed.
        logging.getLogger("watchdog.observers").addHandler(self._overflow)
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        logging.getLogger("watchdog.observers").removeHandler(self._overflow)

    def open(self) -> bool:
        """Start watching, or restart; return True if that was possible."""
        self.close()
        self.blind = ""
        wanted: list[type[FileSystemEvent]] = [FileCreatedEvent, FileClosedEvent, FileMovedEvent]
        observer: Any = None
        try:
            found = self._folder.stat()
            self._key = FileKey(found.st_dev, found.st_ino)
            target = Path(os.path.realpath(self._folder))
            handler = _Handler(target, self._folder, self._hints, self._lost)
            observer = _observer(self._note)
            observer.schedule(handler, str(target), recursive=True, event_filter=wanted)
            observer.start()
        except (OSError, RuntimeError) as error:
            if self._folder.is_dir():
                self._note(error)
            if observer is not None:
                observer.stop()  # its descriptors are open already
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
        """Return True if the observer's threads are alive and watch this folder, not one that is gone."""
        observer = self._observer
        if observer is None or not observer.is_alive() or not all(e.is_alive() for e in observer.emitters):
            return False
        # Roots of disks have the same inode on all of them.
        return key_of(self._folder) == self._key

    def _note(self, error: OSError | RuntimeError) -> None:
        self.blind = str(getattr(error, "strerror", None) or error)

    def hints(self) -> set[Path]:
        """Files to check, since the last call."""
        paths = set()
        while True:
            try:
                paths.add(self._hints.get_nowait())
            except queue.Empty:
                return paths

    def lost_some(self) -> bool:
        """Return True if hints were lost since the last call, so that the folder has to be scanned."""
        lost = self._lost.is_set()
        self._lost.clear()
        return lost


class _Handler(FileSystemEventHandler):
    """Puts paths into the queue, under the folder's name as the user gave it."""

    def __init__(self, target: Path, named: Path, hints: queue.Queue[Path], lost: threading.Event) -> None:
        self._target, self._named, self._hints, self._lost = target, named, hints, lost

    def on_any_event(self, event: FileSystemEvent) -> None:
        try:
            path = Path(os.fsdecode(event.dest_path or event.src_path))
            self._hints.put_nowait(self._named / path.relative_to(self._target))
        except Exception:
            self._lost.set()


_LIMITS = (errno.ENOSPC, errno.EMFILE, errno.ENFILE)
"""How Linux says that there are too many watches, or too many programs that use them."""


def _observer(note: Callable[[OSError], None]) -> Any:
    """An observer that notes when a system limit keeps it from a subfolder, which watchdog silently ignores."""
    if sys.platform != "linux":
        return Observer()
    from watchdog.observers.api import BaseObserver
    from watchdog.observers.inotify import InotifyEmitter
    from watchdog.observers.inotify_c import CallbackId, InotifyFD, Mask, WatchCallback, WatchDescriptor

    class Watches(InotifyFD):
        def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
            try:
                return super().add_callback(path, mask, callback, id_)
            except OSError as error:
                if error.errno in _LIMITS:
                    note(error)
                raise

    class InotifyObserver(BaseObserver):
        def __init__(self) -> None:
            self._watches_thread = Watches()
            self._watches_thread.start()
            super().__init__(InotifyEmitter, inotify_fd=self._watches_thread)

        def is_alive(self) -> bool:
            return super().is_alive() and self._watches_thread.is_alive()

        def on_thread_stop(self) -> None:
            super().on_thread_stop()
            self._watches_thread.stop()
            self._watches_thread.join()

    return InotifyObserver()


class _OverflowListener(logging.Handler):
    def __init__(self, lost: threading.Event) -> None:
        super().__init__(logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage():
            self._lost.set()
