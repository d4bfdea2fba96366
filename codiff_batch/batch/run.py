"""The batch: plan, process side by side, yield outcomes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.plan import Task
from codiff_batch.batch.process import PhotoProcessor, Stage


def run_batch(
    options: BatchOptions,
    tasks: Sequence[Task],
    *,
    stage: Stage = lambda task, doing: None,
    stop: threading.Event | None = None,
) -> Generator[Outcome]:
    """Process planned photos and yield their outcomes in the plan's order.

    ``options.jobs`` photos are under way at a time, so one is read or written while the network works on
    another; no more than that are held in memory.

    Args:
        options: of the batch, checked.
        tasks: from :func:`~codiff_batch.batch.plan.plan`.
        stage: told what is being done, from worker threads.
        stop: when set, the photos under way are finished and no further ones are started.

    Raises:
        ModelError, DeviceUnavailable: no photo can be restored.
    """
    process = PhotoProcessor(options, stage)
    waiting = deque(tasks)
    under_way: deque[Future[Outcome]] = deque()
    stop = stop or threading.Event()
    with ThreadPoolExecutor(options.jobs, thread_name_prefix="photo") as workers:
        while waiting or under_way:
            if stop.is_set():
                waiting.clear()
            while waiting and len(under_way) < options.jobs:
                under_way.append(workers.submit(process, waiting.popleft()))
            if under_way:
                yield under_way.popleft().result()
