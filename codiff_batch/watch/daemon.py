"""The loop of the daemon: hints and scans come in, settled photos go through the pipeline."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codiff_batch.batch.journal import journal_path
from codiff_batch.batch.journals import Folder, Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.batch.outputs import sweep
from codiff_batch.batch.pipeline import LazyRestorer, run_pipeline
from codiff_batch.batch.plan import Task, output_root, plan_each, task_of
from codiff_batch.batch.recall import is_known
from codiff_batch.batch.scan import Found, accepts, scan
from codiff_batch.errors import FolderLocked, FolderUnavailable, OptionsConflict
from codiff_batch.watch.home import Home
from codiff_batch.watch.lookout import Lookout
from codiff_batch.watch.retries import Retries, passes
from codiff_batch.watch.service import Service
from codiff_batch.watch.settling import Settling

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
"""Between two checks for what has arrived."""


@dataclass(frozen=True)
class WatchOptions:
    """How to watch; what to do with photos is in :class:`BatchOptions`, whose paths are the watched folders."""

    settle: float = 5.0
    """Seconds for which a file must not have changed."""
    rescan: float = 300.0
    """Seconds between two scans of the whole folders."""
    polling: bool = False
    """Scan often rather than wait for events."""
    once: bool = False
    """Process what is there, then end."""


class Daemon:
    """Watches folders until told to stop."""

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
        self._restarted = False
        """Whether an output folder was replaced by a new one, so that all photos count as new."""

    def run(self) -> Iterator[Outcome]:
        """Watch, and yield what becomes of each photo.

        Raises:
            FolderLocked: another daemon or batch is using an output folder.
            FolderUnavailable: an output folder cannot be written to.
            ModelError, DeviceUnavailable: no photo can be restored.
        """
        with contextlib.ExitStack() as self._opened:
            self._open_journals()
            self._sweep()
            if not self._watch.once:
                self._restorer()  # Problems with the model or device are reported now, not at the first photo.
            looks = self._watch.polling or self._watch.once
            with Lookout(self._folders, self._watch.rescan, polling=looks, once=self._watch.once) as lookout:
                yield from self._loop(lookout)
        self._service.say("STOPPING=1")

    def _loop(self, lookout: Lookout) -> Iterator[Outcome]:
        # At the start, every failed photo gets another chance; later only those whose failure may be temporary.
        yield from self._scan(first=True)
        lookout.scanned()
        self._service.say("READY=1")
        while not self._stop.is_set():
            self._service.ping()
            now = time.monotonic()
            for path in lookout.hints():
                if self._folder_of(path) is not None:
                    self._settling.touch(path, now)
            for path in self._retries.due(now):
                self._settling.found(path, now)
            if not self._is_at_home():
                self._stop.wait(TICK_SECONDS)
                continue
            if lookout.needs_scan() or self._restarted:
                yield from self._scan(first=self._restarted)
                self._restarted = False
                lookout.scanned()
            if ready := self._settling.ready(now):
                yield from self._process(ready)
            elif self._watch.once and not len(self._settling):
                return
            self._stop.wait(TICK_SECONDS)

    def _scan(self, *, first: bool = False) -> Iterator[Outcome]:
        """Find photos whose present state the journals do not know; yield what could not be looked at."""
        now = time.monotonic()
        errors: set[tuple[Path, str]] = set()
        for photo in scan(
            self._folders, exclude=self._exclude, patterns=self._options.exclude, types=self._options.types
        ):
            self._service.ping()
            if photo.error is not None:
                errors.add((photo.path, photo.error))
                if (photo.path, photo.error) not in self._told:
                    yield Outcome(photo.path, None, Kind.FAILED, photo.error, "photo-error")
            elif self._is_due(photo, first):
                self._settling.found(photo.path, now)
        self._told = errors

    def _is_due(self, photo: Found, first: bool) -> bool:
        """Return True if a batch would work on a photo, as far as can be told without reading it."""
        try:
            task = task_of(photo, self._options)
            if not is_known(task, self._options, self._journals, failed_too=not first):
                return True
            if not first:
                return False
            attempt = self._journals.attempt(task)
            lost = attempt is not None and attempt.outcome.output is not None and not os.path.lexists(task.target)
            return self._options.overwrite or lost
        except FolderUnavailable:
            raise
        except Exception as error:
            # The wall: nothing about one name may end the daemon. The photo's own outcome will say what is wrong.
            log.warning("cannot look up %s in the journal: %s", photo.path, error)
            return first

    def _process(self, paths: Sequence[Path]) -> Iterator[Outcome]:
        found = [Found(path, folder) for path in sorted(paths) if (folder := self._folder_of(path)) is not None]
        outcomes = run_pipeline(
            self._options,
            plan_each(found, self._options),
            journals=self._journals,
            restorer=self._restorer,
            stage=self._note,
            stop=self._stop,
        )
        for outcome in outcomes:
            if outcome.outcome is Kind.FAILED and passes(outcome.reason):
                self._retries.failed(outcome.source, time.monotonic())
            else:
                self._retries.settled(outcome.source)
            yield outcome

    def _folder_of(self, path: Path) -> Path | None:
        """The watched folder whose scan would yield a path."""
        return next(
            (
                folder
                for folder in self._folders
                if accepts(path, folder, self._exclude, patterns=self._options.exclude, types=self._options.types)
            ),
            None,
        )

    def _note(self, task: Task, doing: str) -> None:
        self._service.ping()

    def _open_journals(self) -> None:
        roots = sorted(set(self._roots.values()))
        folders = [Folder(root, frozenset(f for f in self._folders if self._roots[f] == root)) for root in roots]
        self._journals = self._opened.enter_context(Journals(self._options, folders))
        self._homes = {root: Home(journal_path(root, self._options.owner)) for root in roots}

    def _is_at_home(self) -> bool:
        """Return True if the output folders are those whose journals are open.

        One that was moved away is replaced; one whose disk came back has its journal opened again.

        Raises:
            FolderLocked, FolderUnavailable: another run has started one, or the daemon is to end once all is done.
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
        if states[lost[0]] == "back":
            log.warning("the disk of %s is back", lost[0])
        else:
            log.warning("%s was moved away or deleted; starting a new one, with all photos", lost[0])
        self._restarted = True
        return True

    def _say_once(self, words: str) -> None:
        if (Path(), words) not in self._told:
            self._told.add((Path(), words))
            log.warning("%s", words)

    def _sweep(self) -> None:
        """Remove what a killed daemon left, wherever it may have been writing."""
        for root in {*self._roots.values(), *(self._folders if self._options.in_place else ())}:
            sweep([Path(folder) for folder, _, _ in os.walk(root)], self._options.owner)


def _refuse_overlaps(roots: dict[Path, Path]) -> None:
    folders = {folder: Path(os.path.realpath(folder)) for folder in roots}
    for folder, real in folders.items():
        if real.is_relative_to(Path(os.path.realpath(roots[folder]))):
            raise OptionsConflict(
                f"{roots[folder]} holds the watched folder itself; its outputs need a folder of their own"
            )
        for other, place in folders.items():
            if other is not folder and real.is_relative_to(place):
                raise OptionsConflict(f"{folder} lies in {other}, which is watched with its subfolders")
