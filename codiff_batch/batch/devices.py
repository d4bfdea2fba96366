"""Several devices of one machine: a process with its own pipeline for each, fed as it finishes photos."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from codiff_batch.batch.journals import Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.batch.pipeline import LazyRestorer, Stop, run_pipeline
from codiff_batch.batch.plan import Task

PHOTOS_AHEAD = 12
"""Photos that a process has at a time; few, so that no device finishes long after the others."""

POLL_SECONDS = 0.5


@dataclass(eq=False)
class _Helper:
    """A process, and the photos it has."""

    device: str
    process: BaseProcess
    connection: Connection
    tasks: dict[Path, Task] = field(default_factory=dict)


def run_on_devices(
    options: BatchOptions, tasks: Sequence[Task], roots: Collection[Path], *, stop: threading.Event
) -> Generator[Outcome]:
    """Like :func:`~codiff_batch.batch.pipeline.run_pipeline`, on all of ``options.devices``.

    The photos of a process that dies fail with that reason, and the others go on.

    Args:
        options: of the batch, checked.
        tasks: all of them.
        roots: their output folders, whose journals this process has locked and begun.
        stop: as for the pipeline.

    Raises:
        ModelError, DeviceUnavailable: a process cannot use its model or its device.
    """
    # Spawned, never forked: a forked child cannot use CUDA.
    context = multiprocessing.get_context("spawn")
    stopping = context.Event()
    waiting = iter(tasks)
    helpers: dict[Connection, _Helper] = {}
    try:
        for device in options.devices:
            ours, theirs = context.Pipe()
            arguments = (replace(options, devices=(device,)), frozenset(roots), theirs, stopping)
            process = context.Process(target=_help, args=arguments, name=device, daemon=True)
            process.start()
            theirs.close()
            helpers[ours] = _Helper(device, process, ours)
        # In turn, so that a few photos are shared as well.
        for _ in range(PHOTOS_AHEAD):
            for helper in helpers.values():
                _feed(helper, waiting)
        while helpers:
            if stop.is_set():
                stopping.set()
            for connection in wait(list(helpers), POLL_SECONDS):
                helper = helpers[connection]  # type: ignore[index]
                try:
                    message: Any = helper.connection.recv()
                except (EOFError, OSError):
                    del helpers[helper.connection]
                    yield from _lost(helper)
                    continue
                if isinstance(message, Exception):
                    raise message
                if message is None:
                    del helpers[helper.connection]
                    continue
                helper.tasks.pop(message.source)
                _feed(helper, waiting)
                yield message
        # Photos are left over only if all processes died.
        for task in () if stop.is_set() else waiting:
            yield Outcome(
                task.source,
                None,
                Kind.FAILED,
                "no process was left to work on it; run the command again",
                "process-died",
            )
    finally:
        stopping.set()
        for helper in helpers.values():
            helper.connection.close()
            helper.process.join(POLL_SECONDS)
            helper.process.terminate()


def _feed(helper: _Helper, waiting: Iterator[Task]) -> None:
    """Send one more photo, or the word that there is none."""
    task = next(waiting, None)
    if task is not None:
        helper.tasks[task.source] = task
    with contextlib.suppress(OSError):  # If it died, the next read shows it.
        helper.connection.send(task)


def _lost(helper: _Helper) -> Iterator[Outcome]:
    helper.process.join()
    for task in helper.tasks.values():
        reason = f"the process on {helper.device} died (exit code {helper.process.exitcode}); run the command again"
        yield Outcome(task.source, None, Kind.FAILED, reason, "process-died")


def _help(options: BatchOptions, roots: Collection[Path], connection: Connection, stop: Stop) -> None:
    """What a process does: take photos, send outcomes, and finally None."""
    # The first process handles signals that go to the whole group.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    tasks: Iterator[Task] = iter(connection.recv, None)
    restorer = LazyRestorer(options)
    try:
        restorer()  # A missing device is an error even if the others could do its work.
        with Journals.join(options, roots) as journals:
            for outcome in run_pipeline(
                options, tasks, journals=journals, restorer=restorer, stop=stop, under_way=PHOTOS_AHEAD
            ):
                connection.send(outcome)
        connection.send(None)
    except (EOFError, OSError):
        pass  # The first process is gone.
    except Exception as error:
        connection.send(error)
