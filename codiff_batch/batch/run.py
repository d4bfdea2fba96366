"""The batch: plan, process side by side, yield outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.plan import Task
from codiff_batch.batch.process import PhotoProcessor, Stage


def run_batch(
    options: BatchOptions, tasks: Sequence[Task], *, stage: Stage = lambda task, doing: None
) -> Generator[Outcome]:
    """Process planned photos and yield their outcomes in the plan's order.

    ``options.jobs`` photos are under way at a time, so one is read or written while the network works on
    another; no more than that are held in memory. Closing the generator, or an interrupt, finishes the photos
    under way and starts no further ones.

    Args:
        options: of the batch, checked.
        tasks: from :func:`~codiff_batch.batch.plan.plan`.
        stage: told what is being done, from worker threads.

    Raises:
        ModelError, DeviceUnavailable: no photo can be restored.
    """
    process = PhotoProcessor(options, stage)
    waiting = deque(tasks)
    under_way: deque[Future[Outcome]] = deque()
    with ThreadPoolExecutor(options.jobs, thread_name_prefix="photo") as workers:
        while waiting or under_way:
            while waiting and len(under_way) < options.jobs:
                under_way.append(workers.submit(process, waiting.popleft()))
            yield under_way.popleft().result()
