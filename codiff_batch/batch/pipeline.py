"""Threads of a batch: readers, one worker for the device, and writers, so that none of them waits for another."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from codiff_batch.batch.admission import POLL_SECONDS, Admission, Patience, Workers, took_too_long, usual_jobs
from codiff_batch.batch.journals import Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Outcome, Step, code_of
from codiff_batch.batch.plan import Task
from codiff_batch.batch.process import PhotoSteps, Ready, Sight, Stage, Work
from codiff_batch.errors import CodiffError, RestoreFailed

if TYPE_CHECKING:
    from codiff_batch.engine import Embedding, Request, Restorer, Result

log = logging.getLogger(__name__)

T = TypeVar("T")

BYTES_UNDER_WAY = 64_000_000
"""File bytes that may be in memory at a time, some of them several times; a larger file goes alone."""

PIXELS_UNDER_WAY = 50_000_000
"""Decoded pixels that may be in memory at a time; a larger photo goes alone. A GPU with much memory lets more in, so
that it need not wait for the next ones."""

PHOTOS_UNDER_WAY = 32
"""Photos between reading and writing at a time: enough small ones to fill a device's batch several times."""

PHOTOS_A_JOB = 4
"""At least as many for each reading and writing thread."""

LOOKS = 16
"""Photos that CaVE judges at a time where nothing is to be restored."""


class Stop(Protocol):
    """What a :class:`threading.Event` and one of multiprocessing have in common."""

    def is_set(self) -> bool:
        """Return True once the work is to stop."""


class _GivenUp(Exception):
    """A photo took too long and has its outcome: the thread still working on it drops its result."""


class LazyRestorer:
    """The model of a batch on its first device, loaded when it is first needed and kept for the next batch."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._restorer: Restorer | None = None

    def __call__(self) -> Restorer:
        """Load the model, or return the loaded one.

        Raises:
            ModelError, DeviceUnavailable: it cannot be used.
        """
        if self._restorer is None:
            from codiff_batch.engine import Restorer

            options = self._options
            self._restorer = Restorer.load(
                options.model,
                options.devices[0],
                models_dir=options.models_dir,
                compiled=options.compiled,
                precision=options.precision,
            )
        return self._restorer


def run_pipeline(
    options: BatchOptions,
    tasks: Iterable[Task | None],
    *,
    journals: Journals | None = None,
    restorer: Callable[[], Restorer] | None = None,
    stage: Stage = lambda task, doing: None,
    stop: Stop | None = None,
    under_way: int | None = None,
    begin: Callable[[Task], Work] = Work,
) -> Generator[Outcome]:
    """Process planned photos in this process and yield their outcomes as they are settled.

    Args:
        options: of the batch, checked.
        tasks: from :func:`~codiff_batch.batch.plan.plan`; drawn as room becomes free. None means "no more at the
            moment"; the run ends if nothing is in progress then.
        journals: opened for the tasks' folders; None to keep none, as in a dry run.
        restorer: gives the loaded model; None to load it when it is first needed.
        stage: told what is being done, from worker threads.
        stop: when set, photos on the device or later are finished, and the others dropped without an outcome.
        under_way: photos between reading and writing at a time, where not as many as usual.
        begin: makes a photo's work, for a caller who knows more of it than its task.

    Raises:
        ModelError, DeviceUnavailable: no photo can be restored.
    """
    steps = PhotoSteps(options, journals, stage)
    stop = stop or threading.Event()
    pipeline = _Pipeline(options, steps, restorer or LazyRestorer(options), stage, stop, under_way)
    yield from pipeline.run(None if task is None else begin(task) for task in tasks)


class _Pipeline:
    """One run's threads and queues.

    A photo is read by one of ``jobs`` reader threads, judged and restored by the device's thread, and constrained,
    encoded and written by one of ``jobs`` writer threads.
    """

    def __init__(
        self,
        options: BatchOptions,
        steps: PhotoSteps,
        restorer: Callable[[], Restorer],
        stage: Stage,
        stop: Stop,
        under_way: int | None,
    ) -> None:
        self._options, self._steps, self._restorer, self._stage, self._stop = options, steps, restorer, stage, stop
        self._ended = threading.Event()
        self._bytes, self._pixels = Admission(BYTES_UNDER_WAY), Admission(PIXELS_UNDER_WAY)
        self._patience = Patience(options.timeout)
        self._for_device: queue.Queue[Sight | None] = queue.Queue()
        self._settled: queue.Queue[Work | BaseException] = queue.Queue()
        jobs = options.jobs or usual_jobs()
        self._under_way = under_way or max(PHOTOS_UNDER_WAY, PHOTOS_A_JOB * jobs)
        self._readers, self._writers = Workers(jobs, "read"), Workers(jobs, "write")
        self._device = threading.Thread(target=self._guard, args=(self._work_device,), name="device")

    def run(self, works: Iterable[Work | None]) -> Generator[Outcome]:
        """Feed the readers and yield outcomes until all is settled."""
        under_way = 0
        waiting = iter(works)
        self._device.start()
        try:
            while True:
                while under_way < self._under_way and (work := self._next(waiting)):
                    self._readers.submit(partial(self._guard, self._read, work))
                    under_way += 1
                if not under_way:
                    return
                self._give_up_what_hangs()
                try:
                    settled = self._settled.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                if isinstance(settled, BaseException):
                    raise settled
                under_way -= 1
                if settled.outcome is not None:
                    yield settled.outcome
        finally:
            self._stop_threads()

    def _next(self, waiting: Iterator[Work | None]) -> Work | None:
        return None if self._stop.is_set() else next(waiting, None)

    def _stop_threads(self) -> None:
        """End all threads; after an error or in an abandoned run, without finishing what waits."""
        self._ended.set()
        self._bytes.open_up()
        self._pixels.open_up()
        self._readers.end(self._give_up_what_hangs)  # What waits is not read any more.
        self._for_device.put(None)
        self._device.join()
        self._writers.end(self._give_up_what_hangs)

    @property
    def _stopping(self) -> bool:
        return self._stop.is_set() or self._ended.is_set()

    def _guard(self, work: Callable[..., None], *arguments: object) -> None:
        """Pass an error that ends the batch, or a bug, to the thread that yields."""
        try:
            work(*arguments)
        except _GivenUp:
            pass
        except BaseException as error:
            self._settled.put(error)

    def _give_up_what_hangs(self) -> None:
        """Settle photos whose step takes too long; the hanging thread is replaced, and its result dropped."""
        for photo, error, thread in self._patience.overdue():
            hung = cast(Work, photo)
            work = Work(hung.task, hung.started, hung.recall, weight=hung.weight, file_bytes=hung.file_bytes)
            work.settle(Kind.FAILED, str(error), code_of(error))
            for workers in (self._readers, self._writers):
                workers.replace(thread)
            self._settle(work)

    def _take(self, work: Work, step: Callable[[], T]) -> T | None:
        """Take a step of a photo within its time limit, and return its result.

        Raises:
            _GivenUp: it took too long, and the photo must not be touched any more.
        """
        made: list[T | None] = []
        if not self._patience.take(work, work.pixels, lambda: made.append(self._steps.attempt(work, step))):
            raise _GivenUp
        return made[0]

    def _read(self, work: Work) -> None:
        steps = self._steps
        if self._stopping:
            self._settled.put(work)
            return
        work.file_bytes = self._take(work, lambda: self._size(work.task)) or 0
        self._bytes.enter(work.file_bytes)
        opened = self._take(work, lambda: steps.open(work))
        if opened is None:
            self._settle(work)
            return
        self._pixels.enter(work.pixels)
        work.weight = work.pixels
        self._stage(work.task, "judging")
        sight = self._take(work, lambda: steps.decode(opened))
        if sight is None:
            self._settle(work)
        else:
            self._for_device.put(sight)

    def _size(self, task: Task) -> int:
        """Bytes that reading a photo may take."""
        try:
            size = task.source.stat().st_size
        except (OSError, ValueError):
            return 0  # Opening it says why.
        return size if size <= self._options.max_bytes else 0  # Larger ones are refused unread.

    def _work_device(self) -> None:
        first = self._for_device.get()
        if first is None:
            return  # Nothing needed the network, so it is never loaded.
        restorer = self._restorer()
        self._pixels.raise_to(restorer.pixels_under_way)
        for result in restorer.stream(self._requests(restorer, first)):
            self._writers.submit(partial(self._guard, self._write, result))

    def _requests(self, restorer: Restorer, first: Sight) -> Iterator[Request | None]:
        """Judge what arrives, and hand on what is to be restored; None where nothing has arrived."""
        for sights in self._arrivals(first):
            if not sights:
                yield None
                continue
            embeddings = [None] * len(sights) if self._stopping else self._look(restorer, sights)
            for sight, embedding in zip(sights, embeddings, strict=True):
                work = sight.opened.work
                ready = None
                if embedding is not None:
                    ready = self._steps.attempt(work, partial(self._steps.judge, sight, embedding))
                if ready is None:
                    self._writers.submit(partial(self._guard, self._settle, work))
                else:
                    settings, work.queued = self._options.settings, time.monotonic()
                    yield ready.judged.request(settings, progress=self._progress(work), key=ready)

    def _progress(self, work: Work) -> Callable[[int, int], None]:
        """What the network calls after each of a photo's tiles; raises when the photo's time is up."""
        limit = self._patience.limit(work.pixels)
        began: list[float] = []

        def report(done: int, tiles: int) -> None:
            self._stage(work.task, f"restoring {done}/{tiles}")
            began.append(time.monotonic())
            if done < tiles and began[-1] - began[0] > limit:
                raise took_too_long(limit)

        return report

    def _arrivals(self, first: Sight) -> Iterator[list[Sight]]:
        """Photos in groups that are judged together; an empty group before a wait.

        What is restored is looked at by itself: in a batch CaVE's tokens are rounded otherwise, and which photos
        have arrived is chance.
        """
        at_once = LOOKS if self._options.dry_run else 1
        group = [first]
        while True:
            if len(group) >= at_once:
                yield group
                group = []
            try:
                sight = self._for_device.get_nowait()
            except queue.Empty:
                if group:
                    yield group
                    group = []
                yield []
                sight = self._for_device.get()
            if sight is None:
                return  # The run has ended: what is left has no outcome.
            group.append(sight)

    def _look(self, restorer: Restorer, sights: list[Sight]) -> list[Embedding | None]:
        """Have CaVE look at the photos' crops, all at once; None for those that failed."""
        if len(sights) == 1:
            work = sights[0].opened.work
            with work.timed(Step.JUDGE):
                return [self._steps.attempt(work, lambda: self._steps.look(sights, restorer)[0])]
        started = time.monotonic()
        try:
            embeddings: list[Embedding | None] = list(self._steps.look(sights, restorer))
        except Exception:
            # One photo may have caused the failure: look at them one by one, so that only that one fails.
            return [self._look(restorer, [sight])[0] for sight in sights]
        for sight in sights:
            sight.opened.work.took(Step.JUDGE, (time.monotonic() - started) / len(sights))
        return embeddings

    def _write(self, result: Result) -> None:
        ready: Ready = result.request.key
        work = ready.opened.work
        work.took(Step.RESTORE, time.monotonic() - work.queued)

        def finish() -> None:
            if result.levels is None:
                raise result.error or RestoreFailed("nothing came back")
            self._steps.finish(ready, result.levels)

        work.commit = partial(self._patience.commit, work)
        self._take(work, finish)
        self._settle(work)

    def _settle(self, work: Work) -> None:
        try:
            self._steps.record(work)
        except CodiffError:
            raise
        except Exception as error:
            # What the journal cannot hold concerns one photo only.
            log.warning("%s cannot be recorded: %s", work.task.source, error)
        work.contents = work.recall = None
        self._bytes.leave(work.file_bytes)
        self._pixels.leave(work.weight)
        self._settled.put(work)
