"""Readers, one worker for the device, and writers, so that none of them waits for another."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from codiff_batch.batch.journals import Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.plan import Task
from codiff_batch.batch.process import PhotoSteps, Stage, Work

if TYPE_CHECKING:
    from codiff_batch.engine import Request, Restorer, Result

PIXELS_UNDER_WAY = 50_000_000
"""Decoded pixels that may wait in memory at a time; one larger photo goes alone."""

PHOTOS_UNDER_WAY = 32
"""Photos between reading and writing at a time: enough small ones to fill a device's batch several times."""

LOOKS = 16
"""Photos that CaVE judges at a time where nothing is to be restored."""


class Stop(Protocol):
    """What a :class:`threading.Event` and one of multiprocessing have in common."""

    def is_set(self) -> bool:
        """Whether to stop."""


class LazyRestorer:
    """The model of a batch, loaded when it is first needed and kept for the next batch."""

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
                options.model, options.device, models_dir=options.models_dir, compiled=options.compiled
            )
        return self._restorer


def run_pipeline(
    options: BatchOptions,
    tasks: Iterable[Task],
    *,
    journals: Journals | None = None,
    restorer: Callable[[], Restorer] | None = None,
    stage: Stage = lambda task, doing: None,
    stop: Stop | None = None,
    under_way: int = PHOTOS_UNDER_WAY,
    begin: Callable[[Task], Work] = Work,
) -> Generator[Outcome]:
    """Process planned photos in this process and yield their outcomes as they are settled.

    Args:
        options: of the batch, checked.
        tasks: from :func:`~codiff_batch.batch.plan.plan`; drawn as room becomes free.
        journals: opened for the tasks' folders; None to keep none, as in a dry run.
        restorer: gives the loaded model; None to load it when it is first needed.
        stage: told what is being done, from worker threads.
        stop: when set, photos on the device or later are finished, and the others dropped without an outcome.
        under_way: photos between reading and writing at a time.
        begin: makes a photo's work, for a caller who knows more of it than its task.

    Raises:
        ModelError, DeviceUnavailable: no photo can be restored.
    """
    steps = PhotoSteps(options, journals, stage)
    pipeline = _Pipeline(options, steps, restorer or LazyRestorer(options), stage, stop or threading.Event())
    yield from pipeline.run(map(begin, tasks), under_way)


class _Admission:
    """Bounds the decoded pixels that are under way."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._changed = threading.Condition()

    def enter(self, amount: int) -> None:
        """Wait until there is room; what is larger than the limit enters alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + amount <= self._limit)
            self._used += amount

    def open_up(self) -> None:
        """Let everybody in: nothing is read any more."""
        with self._changed:
            self._limit = sys.maxsize
            self._changed.notify_all()

    def leave(self, amount: int) -> None:
        """Make room."""
        with self._changed:
            self._used -= amount
            self._changed.notify_all()


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
    ) -> None:
        self._options, self._steps, self._restorer, self._stage, self._stop = options, steps, restorer, stage, stop
        self._ended = threading.Event()
        self._admission = _Admission(PIXELS_UNDER_WAY)
        self._for_device: queue.Queue[Work | None] = queue.Queue()
        self._settled: queue.Queue[Work | BaseException] = queue.Queue()
        jobs = options.jobs
        self._readers = ThreadPoolExecutor(jobs, thread_name_prefix="read")
        self._writers = ThreadPoolExecutor(jobs, thread_name_prefix="write")
        self._device = threading.Thread(target=self._guard, args=(self._work_device,), name="device")

    def run(self, works: Iterable[Work], limit: int) -> Generator[Outcome]:
        """Feed the readers and yield outcomes until all is settled."""
        under_way = 0
        waiting = iter(works)
        self._device.start()
        try:
            while True:
                while under_way < limit and (work := self._next(waiting)):
                    self._readers.submit(self._guard, self._read, work)
                    under_way += 1
                if not under_way:
                    return
                settled = self._settled.get()
                if isinstance(settled, BaseException):
                    raise settled
                under_way -= 1
                if settled.outcome is not None:
                    yield settled.outcome
        finally:
            self._stop_threads()

    def _next(self, waiting: Iterator[Work]) -> Work | None:
        return None if self._stop.is_set() else next(waiting, None)

    def _stop_threads(self) -> None:
        """End all threads; after an error or in an abandoned run, without finishing what waits."""
        self._ended.set()
        self._admission.open_up()
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._for_device.put(None)
        self._device.join()
        self._writers.shutdown(wait=True)

    @property
    def _stopping(self) -> bool:
        return self._stop.is_set() or self._ended.is_set()

    def _guard(self, work: Callable[..., None], *arguments: object) -> None:
        """Carry an error that ends the batch, or a mistake of the program, to the thread that yields."""
        try:
            work(*arguments)
        except BaseException as error:
            self._settled.put(error)

    def _read(self, work: Work) -> None:
        steps = self._steps
        if self._stopping:
            self._settled.put(work)
            return
        steps.attempt(work, steps.open)
        if work.outcome is None and work.photo is not None:
            header = work.photo.header
            self._admission.enter(header.width * header.height)
            work.weight = header.width * header.height
            self._stage(work.task, "judging")
            steps.attempt(work, steps.decode)
        if work.outcome is None:
            self._for_device.put(work)
        else:
            self._settle(work)

    def _work_device(self) -> None:
        first = self._for_device.get()
        if first is None:
            return  # Nothing needed the network, so it is never loaded.
        restorer = self._restorer()
        for result in restorer.stream(self._requests(restorer, first)):
            self._writers.submit(self._guard, self._write, result)

    def _requests(self, restorer: Restorer, first: Work) -> Iterator[Request | None]:
        """Judge what arrives, and hand on what is to be restored; None where nothing has arrived."""
        from codiff_batch.engine import Request

        for works in self._arrivals(first):
            if not works:
                yield None
                continue
            if self._stopping:
                for work in works:
                    self._settle(work)
                continue
            self._look(restorer, works)
            for work in works:
                self._steps.attempt(work, self._steps.judge)
                if work.outcome is not None:
                    self._writers.submit(self._guard, self._settle, work)
                    continue
                assert work.pixels is not None
                assert work.photo is not None
                yield Request(
                    work.pixels,
                    work.embedding,
                    self._options.strength,
                    self._options.texture,
                    work.photo.header.tables,
                    progress=lambda done, tiles, work=work: self._stage(work.task, f"restoring {done}/{tiles}"),  # type: ignore[misc]
                    key=work,
                )

    def _arrivals(self, first: Work) -> Iterator[list[Work]]:
        """Works in groups that are judged together; an empty group before a wait."""
        at_once = LOOKS if self._options.dry_run else 1
        group = [first]
        while True:
            try:
                work = self._for_device.get_nowait()
            except queue.Empty:
                if group:
                    yield group
                    group = []
                yield []
                work = self._for_device.get()
            if work is None:
                break
            group.append(work)
            if len(group) >= at_once:
                yield group
                group = []
        if group:
            yield group

    def _look(self, restorer: Restorer, works: list[Work]) -> None:
        """Let CaVE see the works' crops, all at once."""

        def look(work: Work) -> None:
            embeddings = restorer.embed_crops([other.crops for other in works])
            for other, embedding in zip(works, embeddings, strict=True):
                other.embedding = embedding

        self._steps.attempt(works[0], look)
        # What broke the batch is one photo's fault: look at them one by one, so that it alone fails.
        for work in works if works[0].outcome is not None and len(works) > 1 else ():
            work.outcome = None
            self._look(restorer, [work])

    def _write(self, result: Result) -> None:
        work: Work = result.request.key

        def finish(work: Work) -> None:
            if result.error is not None:
                raise result.error
            assert result.levels is not None
            self._steps.finish(work, result.levels)

        self._steps.attempt(work, finish)
        self._settle(work)

    def _settle(self, work: Work) -> None:
        self._steps.record(work)
        work.photo = work.pixels = None
        work.crops = ()
        self._admission.leave(work.weight)
        self._settled.put(work)
