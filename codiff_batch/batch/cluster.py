"""Several machines: the same way of one photo on Ray's actors, for users who have outgrown shards.

Ray brings the queueing, the restarts and the retries; this file only says what an actor does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Sequence
from typing import Any

from codiff_batch.batch.journals import Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.batch.pipeline import LazyRestorer, run_pipeline
from codiff_batch.batch.plan import Task
from codiff_batch.batch.process import PhotoSteps, Work
from codiff_batch.batch.recall import Recall
from codiff_batch.batch.rows import Standing
from codiff_batch.errors import DeviceUnavailable, OptionsConflict
from codiff_batch.files.identity import canonical
from codiff_batch.files.reading import read_whole

RETRIES = 3
"""How often a photo is tried again whose actor died under it."""

POLL_SECONDS = 0.5


class PhotoWorker:
    """What an actor does: it keeps one model and takes photos one at a time."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._restorer = LazyRestorer(options)

    def process(self, task: Task, recall: Recall | None) -> Outcome:
        """One photo's whole way, given what the journal knows of it."""
        works = run_pipeline(
            self._options, [task], restorer=self._restorer, begin=lambda task: Work(task, recall=recall)
        )
        return next(works)


def run_on_cluster(
    options: BatchOptions, tasks: Sequence[Task], journals: Journals, *, stop: threading.Event
) -> Generator[Outcome]:
    """Like :func:`~codiff_batch.batch.pipeline.run_pipeline`, on a Ray cluster that sees the same folders.

    Each GPU gets one actor, or each CPU where there are none; an idle actor takes the next photo. An actor that
    dies is started again, and its photo with it. This process alone writes the journal.

    Raises:
        OptionsConflict: Ray is not installed.
        DeviceUnavailable: there is no cluster at this address.
        ModelError: the actors cannot use the model.
    """
    try:
        import ray
    except ImportError:
        raise OptionsConflict("--cluster needs Ray: pip install 'codiff-batch[ray]'") from None
    try:
        ray.init(options.cluster, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        raise DeviceUnavailable(f"no Ray cluster at {options.cluster}: {error}") from None
    steps = PhotoSteps(options, journals, stage=lambda task, doing: None)
    waiting = iter(tasks)
    try:
        idle = _actors(ray, options, len(tasks))
        running: dict[Any, tuple[Any, Work]] = {}
        while True:
            while idle and not stop.is_set() and (task := next(waiting, None)):
                work = Work(task)
                steps.attempt(work, steps.remember)
                if work.outcome is None:
                    actor = idle.pop()
                    running[actor.process.remote(task, work.recall)] = actor, work
                else:
                    steps.record(work)
                    yield work.outcome
            if not running:
                return
            for done in ray.wait(list(running), timeout=POLL_SECONDS)[0]:
                actor, work = running.pop(done)
                idle.append(actor)
                _settle(ray, done, work, journals)
                steps.record(work)
                assert work.outcome is not None
                yield work.outcome
    finally:
        ray.shutdown()


def _actors(ray: Any, options: BatchOptions, photos: int) -> list[Any]:
    resources = ray.cluster_resources()
    gpus = 0 if options.device == "cpu" else int(resources.get("GPU", 0))
    count = gpus or int(resources.get("CPU", 1))
    kind = ray.remote(num_cpus=0 if gpus else 1, num_gpus=1 if gpus else 0)(PhotoWorker)
    keep = kind.options(max_restarts=RETRIES, max_task_retries=RETRIES)
    return [keep.remote(options) for _ in range(max(1, min(count, photos)))]


def _settle(ray: Any, done: Any, work: Work, journals: Journals) -> None:
    """Take over what an actor made of a photo."""
    try:
        outcome: Outcome = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        reason = f"its worker died {RETRIES + 1} times: {type(error).__name__}"
        work.settle(Kind.FAILED, reason, "worker-died")
        return
    work.outcome = outcome
    if outcome.outcome is Kind.RESTORED and outcome.output is not None:
        task = work.task
        work.contents = read_whole(task.source)
        written = read_whole(outcome.output).sha256
        work.standing = Standing(
            *(task.place, canonical(task.source), False, work.contents.sha256, written, journals.made)
        )
