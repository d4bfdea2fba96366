"""The loop of the daemon: hints and scans in, settled photos through the pipeline."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codiff_batch.batch.journals import Folder, Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.outputs import sweep
from codiff_batch.batch.pipeline import LazyRestorer, run_pipeline
from codiff_batch.batch.plan import Task, output_root, plan_each
from codiff_batch.batch.recall import is_known
from codiff_batch.batch.scan import Found, accepts, scan
from codiff_batch.errors import OptionsConflict
from codiff_batch.watch.eyes import Eyes, raises_no_events
from codiff_batch.watch.service import Service
from codiff_batch.watch.settling import Settling

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
"""Between two looks at what arrives."""

POLL_SECONDS = 10.0
"""Between two scans where there are no events."""


@dataclass(frozen=True)
class WatchOptions:
    """How to watch; what to do with photos is in :class:`BatchOptions`, whose one path is the watched folder."""

    settle: float = 5.0
    """Seconds that a file must have been left alone."""
    rescan: float = 300.0
    """Seconds between two scans of the whole folder."""
    polling: bool = False
    """Scan often rather than wait for events."""
    once: bool = False
    """Do what is there, and end."""


class Daemon:
    """Watches one folder until it is told to stop."""

    def __init__(self, options: BatchOptions, watch: WatchOptions, stop: threading.Event) -> None:
        """Check the folders.

        Raises:
            OptionsConflict: the output folder is the watched one or lies above it.
        """
        (self._folder,) = options.paths
        self._options, self._watch, self._stop = options, watch, stop
        self._root = options.backup or options.output or output_root(self._folder)
        if self._folder.resolve().is_relative_to(self._root.resolve()):
            raise OptionsConflict(
                f"{self._root} holds the watched folder itself; its outputs need a folder of their own"
            )
        self._barred = {folder.resolve() for folder in (options.output, options.backup) if folder is not None}
        self._polling = watch.polling or raises_no_events(self._folder)
        self._settling = Settling(watch.settle)
        self._restorer = LazyRestorer(options)
        self._service = Service()

    def run(self) -> Iterator[Outcome]:
        """Watch, and yield what becomes of each photo.

        Raises:
            FolderLocked: another daemon or batch is at work in the output folder.
            FolderUnavailable: the output folder cannot be written to.
            ModelError, DeviceUnavailable: no photo can be restored.
        """
        with Journals(self._options, [Folder(self._root, frozenset({self._folder}))]) as journals:
            self._sweep()
            if self._polling or self._watch.once:
                yield from self._loop(journals, None)
            else:
                with Eyes(self._folder) as eyes:
                    yield from self._loop(journals, eyes)
        self._service.say("STOPPING=1")

    def _loop(self, journals: Journals, eyes: Eyes | None) -> Iterator[Outcome]:
        every = min(self._watch.rescan, POLL_SECONDS) if self._polling else self._watch.rescan
        log.info("watching %s, %s", self._folder, f"scanned every {every:g} s" if eyes is None else "by events")
        # At the start, photos that failed get another chance; later only when they change.
        self._scan(journals, failed_too=True)
        scanned = time.monotonic()
        self._service.say("READY=1")
        while not self._stop.is_set():
            self._service.ping()
            now = time.monotonic()
            for path in eyes.hints() if eyes else ():
                if accepts(path, self._folder, self._barred):
                    self._settling.touch(path, now)
            if now - scanned >= every or (eyes and self._needs_scan(eyes)):
                self._scan(journals)
                scanned = now
            if ready := self._settling.ready(now):
                yield from self._process(ready, journals)
            elif self._watch.once and not len(self._settling):
                return
            self._stop.wait(TICK_SECONDS)

    def _needs_scan(self, eyes: Eyes) -> bool:
        """Whether events were lost, or there are none for want of an observer, which is then started anew."""
        if not eyes.see():
            if not self._folder.is_dir():
                return False  # An unplugged disk; it may come back.
            log.warning("the observer of %s has died; starting another", self._folder)
            return eyes.open()
        if eyes.lost_some():
            log.warning("events were lost; scanning %s", self._folder)
            return True
        return False

    def _scan(self, journals: Journals, *, failed_too: bool = False) -> None:
        """Find photos that the journal does not know as they are now."""
        now = time.monotonic()
        for photo in scan([self._folder], exclude=self._barred):
            self._service.ping()
            (task,) = plan_each([photo], self._options) or (None,)
            if task is not None and not is_known(task, self._options, journals, failed_too=not failed_too):
                self._settling.touch(photo.path, now)

    def _process(self, paths: list[Path], journals: Journals) -> Iterator[Outcome]:
        photos = [Found(path, self._folder) for path in sorted(paths)]
        tasks = plan_each(photos, self._options)
        yield from run_pipeline(
            self._options, tasks, journals=journals, restorer=self._restorer, stage=self._note, stop=self._stop
        )

    def _note(self, task: Task, doing: str) -> None:
        self._service.ping()

    def _sweep(self) -> None:
        """Remove what a killed daemon left, wherever it may have been writing."""
        for root in {self._root, *((self._folder,) if self._options.in_place else ())}:
            folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
            sweep(folders, self._options.owner)
