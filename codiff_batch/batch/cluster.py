"""Several machines: each photo goes through a pipeline in one of Ray's actors, for users who have outgrown shards.

Ray does the queueing, restarts and retries; this file only says what an actor does.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from codiff_batch.batch.journals import Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Code, Kind, Outcome
from codiff_batch.batch.pipeline import LazyRestorer, run_pipeline
from codiff_batch.batch.plan import Task
from codiff_batch.batch.process import PhotoSteps, Work
from codiff_batch.batch.recall import Recall
from codiff_batch.batch.rows import Standing
from codiff_batch.errors import DeviceUnavailable, OptionsConflict, PhotoError, Role
from codiff_batch.files.identity import canonical
from codiff_batch.files.reading import read_whole

RETRIES = 3
"""How often a photo is retried if its actor died."""

PHOTOS_AHEAD = 4
"""Photos that an actor has at a time: enough to read and write while its device works."""

POLL_SECONDS = 0.5


class PhotoWorker:
    """What an actor does: one pipeline, fed by calls that each bring a photo and wait for its outcome.

    So the next photos are read while the device works on one, and each call can be retried by itself.
    """

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._fresh: queue.Queue[_Call] = queue.Queue()
        self._calls: dict[Path, _Call] = {}
        threading.Thread(target=self._work, daemon=True).start()

    def process(self, task: Task, recall: Recall | None) -> Outcome:
        """One photo's whole way, given what the journal knows of it; called from several threads."""
        call = _Call(task, recall, Future())
        self._fresh.put(call)
        return call.ended.result()

    def _work(self) -> None:
        restorer = LazyRestorer(self._options)
        while True:
            first = self._fresh.get()
            try:
                works = run_pipeline(self._options, self._drawn(first), restorer=restorer, begin=self._begin)
                for outcome in works:
                    self._calls.pop(outcome.source).ended.set_result(outcome)
            except Exception as error:  # No photo can be restored: pass the error to all callers that wait.
                for call in self._calls.values():
                    call.ended.set_exception(error)
                self._calls.clear()

    def _drawn(self, call: _Call | None) -> Iterator[Task | None]:
        """Photos as they arrive; None where none has."""
        while True:
            if call is not None:
                self._calls[call.task.source] = call
            yield call.task if call is not None else None
            try:
                call = self._fresh.get_nowait()
            except queue.Empty:
                call = None

    def _begin(self, task: Task) -> Work:
        return Work(task, recall=self._calls[task.source].recall)


@dataclass(eq=False)
class _Call:
    task: Task
    recall: Recall | None
    ended: Future[Outcome]


def run_on_cluster(
    options: BatchOptions, tasks: Sequence[Task], journals: Journals, *, stop: threading.Event
) -> Generator[Outcome]:
    """Like :func:`~codiff_batch.batch.pipeline.run_pipeline`, on a Ray cluster that sees the same folders.

    Each GPU gets one actor, or each CPU where there are none, with a few photos at a time. An actor that dies is
    started again, and its photos with it. This process alone writes the journal.

    Raises:
        OptionsConflict: Ray is not installed.
        DeviceUnavailable: there is no cluster at this address.
        ModelError: the actors cannot use the model.
    """
    try:
        import ray
    except ImportError:
        raise OptionsConflict("a cluster needs Ray: pip install 'codiff-batch[ray]'") from None
    try:
        ray.init(options.cluster, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise DeviceUnavailable(f"no Ray cluster at {options.cluster}: {error}", Role.CLUSTER) from None
    steps = PhotoSteps(options, journals, stage=lambda task, doing: None)
    waiting = iter(tasks)
    try:
        idle = _actors(ray, options, len(tasks))
        running: dict[Any, tuple[Any, Work]] = {}
        while True:
            while idle and not stop.is_set() and (task := next(waiting, None)):
                work = Work(task)
                steps.attempt(work, partial(steps.remember, work))
                if work.outcome is None:
                    actor = idle.popleft()
                    running[actor.process.remote(task, work.recall)] = actor, work
                else:
                    steps.record(work)
                    yield work.outcome
            if not running:
                return
            for done in ray.wait(list(running), timeout=POLL_SECONDS)[0]:
                actor, work = running.pop(done)
                idle.append(actor)
                outcome = work.outcome = _outcome(ray, done, work, journals)
                steps.record(work)
                yield outcome
    finally:
        ray.shutdown()


def _actors(ray: Any, options: BatchOptions, photos: int) -> deque[Any]:
    """The actors, each as often as it can take a photo."""
    resources = ray.cluster_resources()
    gpus = 0 if options.devices == ("cpu",) else int(resources.get("GPU", 0))
    count = gpus or int(resources.get("CPU", 1))
    kind = ray.remote(num_cpus=0 if gpus else 1, num_gpus=1 if gpus else 0)(PhotoWorker)
    keep = kind.options(max_restarts=RETRIES, max_task_retries=RETRIES, max_concurrency=PHOTOS_AHEAD)
    actors = [keep.remote(options) for _ in range(max(1, min(count, photos)))]
    # In turn, so that a few photos are shared as well.
    return deque(actors * PHOTOS_AHEAD)


def _outcome(ray: Any, done: Any, work: Work, journals: Journals) -> Outcome:
    """What an actor made of a photo."""
    try:
        outcome: Outcome = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        reason = f"its worker died {RETRIES + 1} times: {type(error).__name__}"
        return Outcome(work.task.source, None, Kind.FAILED, reason, "worker-died")
    with contextlib.suppress(PhotoError):  # The photo or what was made of it is gone already.
        _note_what_stands(work, outcome, journals)
    return outcome


def _note_what_stands(work: Work, outcome: Outcome, journals: Journals) -> None:
    """Have the journal know what an actor wrote: a restored picture, or a copy where a picture would be.

    Raises:
        PhotoError: it cannot be read.
    """
    task = work.task
    copied = outcome.outcome is Kind.SKIPPED and outcome.code != Code.OUTPUT_EXISTS_ALREADY
    if outcome.output != task.target or not (copied or outcome.outcome is Kind.RESTORED):
        return
    work.contents = read_whole(task.source)
    original, written = work.contents.sha256, read_whole(task.target).sha256
    if not copied or written == original:
        made = None if copied else journals.made
        work.standing = Standing(task.place, canonical(task.source), False, original, written, made)
