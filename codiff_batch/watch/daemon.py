"""The loop of the daemon: hints and scans in, settled photos through the pipeline."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codiff_batch.batch.journal import Entry, Identity
from codiff_batch.batch.journals import Journals, journal_path
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.outputs import sweep
from codiff_batch.batch.pipeline import LazyRestorer, run_pipeline
from codiff_batch.batch.plan import Task, output_root, plan_photos
from codiff_batch.batch.scan import Found, accepts, scan
from codiff_batch.errors import FolderLocked, FolderUnavailable, OptionsConflict, PhotoError
from codiff_batch.watch.home import Home
from codiff_batch.watch.retries import Retries, passes
from codiff_batch.watch.service import Service
from codiff_batch.watch.settling import Settling
from codiff_batch.watch.sight import Sight

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
"""Between two looks at what arrives."""


@dataclass(frozen=True)
class WatchOptions:
    """How to watch; what to do with photos is in :class:`BatchOptions`, whose paths are the watched folders."""

    settle: float = 5.0
    """Seconds that a file must have been left alone."""
    rescan: float = 300.0
    """Seconds between two scans of the whole folders."""
    polling: bool = False
    """Scan often rather than wait for events."""
    once: bool = False
    """Do what is there, and end."""


class Daemon:
    """Watches folders until it is told to stop."""

    def __init__(self, options: BatchOptions, watch: WatchOptions, stop: threading.Event) -> None:
        """Check the folders.

        Raises:
            OptionsConflict: an output folder is a watched one or lies above it, watched folders lie in one another,
                or several devices are named.
        """
        if len(options.devices) > 1:
            raise OptionsConflict("a daemon works on one device; start one for each device, with a folder of its own")
        self._options, self._watch, self._stop = options, watch, stop
        self._folders = options.paths
        self._roots = {f: options.backup or options.output or output_root(f) for f in self._folders}
        _refuse_overlaps(self._roots)
        self._exclude = tuple(set(self._roots.values()))
        self._settling, self._retries = Settling(watch.settle), Retries()
        self._restorer = LazyRestorer(options)
        self._service = Service()
        self._told: set[tuple[Path, str]] = set()
        self._homes: dict[Path, Home] = {}
        self._anew = False

    def run(self) -> Iterator[Outcome]:
        """Watch, and yield what becomes of each photo.

        Raises:
            FolderLocked: another daemon or batch is at work in an output folder.
            FolderUnavailable: an output folder cannot be written to.
            ModelError, DeviceUnavailable: no photo can be restored.
        """
        with contextlib.ExitStack() as self._opened:
            self._open_journals()
            self._sweep()
            if not self._watch.once:
                self._restorer()  # What is wrong with model or device is said now, not with the first photo at night.
            looks = self._watch.polling or self._watch.once
            with Sight(self._folders, self._watch.rescan, polling=looks, once=self._watch.once) as sight:
                yield from self._loop(sight)
        self._service.say("STOPPING=1")

    def _loop(self, sight: Sight) -> Iterator[Outcome]:
        # At the start, photos that failed get another chance; later only for reasons that pass.
        yield from self._scan(first=True)
        sight.scanned()
        self._service.say("READY=1")
        while not self._stop.is_set():
            self._service.ping()
            now = time.monotonic()
            for path in sight.hints():
                if self._folder_of(path) is not None:
                    self._settling.touch(path, now)
            for path in self._retries.due(now):
                self._settling.found(path, now)
            if not self._is_at_home():
                self._stop.wait(TICK_SECONDS)
                continue
            if sight.needs_scan() or self._anew:
                yield from self._scan(first=self._anew)
                self._anew = False
                sight.scanned()
            if ready := self._settling.ready(now):
                yield from self._process(ready)
            elif self._watch.once and not len(self._settling):
                return
            self._stop.wait(TICK_SECONDS)

    def _scan(self, *, first: bool = False) -> Iterator[Outcome]:
        """Find photos that the journals do not know as they are now; yield what could not be looked at."""
        now = time.monotonic()
        errors: set[tuple[Path, str]] = set()
        for photo in scan(self._folders, exclude=self._exclude):
            self._service.ping()
            if photo.error is not None:
                errors.add((photo.path, photo.error))
                if (photo.path, photo.error) not in self._told:
                    yield Outcome(photo.path, None, "failed", photo.error)
            elif self._is_due(photo, first):
                self._settling.found(photo.path, now)
        self._told = errors

    def _is_due(self, photo: Found, first: bool) -> bool:
        """Return True if the batch would work on a photo, as far as nothing has to be read for it."""
        assert photo.root is not None
        try:
            entry = self._journals.at(self._roots[photo.root]).find(photo.path)
            if entry is None or entry.outcome == "writing" or Identity.of(photo.path) != entry.identity:
                return True
        except PhotoError:
            return False  # Gone again.
        except Exception as error:
            # The wall: nothing about one name may end the daemon. The photo's own outcome will say what it is.
            log.warning("the journal cannot be asked about %s: %s", photo.path, error)
            return first
        if (entry.options, entry.model) != (self._journals.options, self._journals.model):
            return True
        return first and (self._options.overwrite or not _is_done(entry))

    def _process(self, paths: Sequence[Path]) -> Iterator[Outcome]:
        tasks: list[Task] = []
        for path in sorted(paths):
            folder = self._folder_of(path)
            if folder is None:
                continue  # A folder above became a link.
            photo = Found(path, folder)
            try:
                tasks += plan_photos([photo], self._options)
            except OptionsConflict as error:
                yield Outcome(photo.path, None, "failed", str(error))
        outcomes = run_pipeline(
            self._options,
            _without_collisions(tasks),
            journals=self._journals,
            restorer=self._restorer,
            stage=self._note,
            stop=self._stop,
        )
        for outcome in outcomes:
            if outcome.outcome == "failed" and passes(outcome.reason):
                self._retries.failed(outcome.source, time.monotonic())
            else:
                self._retries.settled(outcome.source)
            yield outcome

    def _folder_of(self, path: Path) -> Path | None:
        """The watched folder whose scan would yield a path."""
        return next((folder for folder in self._folders if accepts(path, folder, self._exclude)), None)

    def _note(self, task: Task, doing: str) -> None:
        self._service.ping()

    def _open_journals(self) -> None:
        roots = set(self._roots.values())
        self._journals = self._opened.enter_context(Journals(self._options, roots))
        self._homes = {root: Home(journal_path(root, self._options.owner)) for root in roots}

    def _is_at_home(self) -> bool:
        """Return True if the output folders are those whose journals are open; begin one anew that was moved away.

        Raises:
            FolderLocked, FolderUnavailable: another run has begun one, or nobody waits for it.
        """
        states = {root: home.state() for root, home in self._homes.items()}
        lost = [root for root, state in states.items() if state != "there"]
        if not lost:
            return True
        if "elsewhere" in states.values() and self._watch.once:
            raise FolderUnavailable(f"{lost[0]} is not on the disk it was on")
        if "elsewhere" in states.values():
            self._say_once(f"{lost[0]} is not on the disk it was on; waiting for it")
            return False
        self._opened.close()
        try:
            self._open_journals()
        except FolderUnavailable as error:
            if self._watch.once or isinstance(error, FolderLocked):
                raise
            self._say_once(f"{error}; waiting")
            return False
        log.warning("%s was moved away or deleted; beginning another, with all photos", lost[0])
        self._anew = True
        return True

    def _say_once(self, words: str) -> None:
        if (Path(), words) not in self._told:
            self._told.add((Path(), words))
            log.warning("%s", words)

    def _sweep(self) -> None:
        """Remove what a killed daemon left, wherever it may have been writing."""
        for root in {*self._roots.values(), *(self._folders if self._options.in_place else ())}:
            sweep([Path(folder) for folder, _, _ in os.walk(root)], self._options.owner)


def _is_done(entry: Entry) -> bool:
    return entry.outcome in ("restored", "skipped") and (entry.output is None or os.path.lexists(entry.output))


def _without_collisions(tasks: Sequence[Task]) -> Iterator[Task]:
    """Mark photos that came together and have one target; those that came earlier stand in the journal."""
    owners: dict[Path, Path] = {}
    for task in tasks:
        owner = owners.setdefault(task.target, task.source)
        other = f"its output would be the same file as that of {owner}"
        yield task if owner == task.source else replace(task, backup=None, conflict=other)


def _refuse_overlaps(roots: dict[Path, Path]) -> None:
    folders = {folder: Path(os.path.realpath(folder)) for folder in roots}
    for folder, real in folders.items():
        if real.is_relative_to(Path(os.path.realpath(roots[folder]))):
            raise OptionsConflict(
                f"{roots[folder]} holds the watched folder itself; its outputs need a folder of their own"
            )
        for other, place in folders.items():
            if other is not folder and real.is_relative_to(place):
                raise OptionsConflict(f"{folder} lies in {other}, which is watched with all its folders")
