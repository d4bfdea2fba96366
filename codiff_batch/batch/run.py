"""The entry to a whole batch: plans it, opens and locks its journals, and runs it as its options ask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence

from codiff_batch.batch.journals import Journals, folders_of
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.pipeline import run_pipeline
from codiff_batch.batch.plan import Task, plan, without_collisions
from codiff_batch.batch.process import Stage


def run(
    options: BatchOptions,
    *,
    planned: Callable[[Sequence[Task]], None] = lambda tasks: None,
    stage: Stage = lambda task, doing: None,
    stop: threading.Event | None = None,
) -> Generator[Outcome]:
    """Find the photos, restore them, and yield the outcome of each as soon as it is known.

    The same as the command line does::

        from pathlib import Path
        from codiff_batch import BatchOptions, run

        for outcome in run(BatchOptions((Path("photos"),))):
            print(outcome.source, outcome.outcome, outcome.reason)

    Args:
        options: what to do.
        planned: called once, with all photos in their order and where their outputs go.
        stage: called from worker threads with what is being done to which photo; not with several devices or a cluster.
        stop: when set, photos that the device has started are finished, and the others are left without an outcome.

    Raises:
        OptionsConflict: options contradict each other, or outputs would land on their sources.
        FolderLocked: another run is using an output folder.
        FolderUnavailable: an output folder cannot be written to.
        ModelError, DeviceUnavailable: no photo can be restored.
    """
    options.check()
    if options.cluster is None:
        _refuse_devices(options.devices)
    tasks = plan(options)
    planned(tasks)
    yield from run_batch(options, tasks, stage=stage, stop=stop)


def _refuse_devices(names: Sequence[str]) -> None:
    """Refuse missing devices before any photo is looked at; torch is imported only if a device is named."""
    if named := [name for name in names if name not in ("auto", "cpu")]:
        from codiff_batch.engine.device import choose_device

        for name in named:
            choose_device(name)


def run_batch(
    options: BatchOptions,
    tasks: Sequence[Task],
    *,
    stage: Stage = lambda task, doing: None,
    stop: threading.Event | None = None,
) -> Generator[Outcome]:
    """Process planned photos and yield their outcomes as they are settled.

    Args:
        options: of the batch, checked.
        tasks: from :func:`~codiff_batch.batch.plan.plan`.
        stage: told what is being done, from worker threads; not with several devices or a cluster.
        stop: when set, photos that the device has started are finished, and the others are left without an outcome.

    Raises:
        FolderLocked: another run is using an output folder.
        FolderUnavailable: an output folder cannot be written to.
        ModelError, DeviceUnavailable: no photo can be restored.
    """
    stop = stop or threading.Event()
    if options.dry_run:
        yield from run_pipeline(options, tasks, stage=stage, stop=stop)
        return
    with Journals(options, folders_of(tasks), tasks) as journals:
        # Whether a disk is case-sensitive is only certain once there is something on it.
        tasks = without_collisions(tasks)
        journals.sweep(tasks)
        if options.cluster is not None:
            from codiff_batch.batch.cluster import run_on_cluster

            yield from run_on_cluster(options, tasks, journals, stop=stop)
            journals.sweep(tasks)  # A worker that died may have left files, and all others are done.
        elif len(options.devices) > 1:
            from codiff_batch.batch.devices import run_on_devices

            yield from run_on_devices(options, tasks, {task.root for task in tasks}, stop=stop)
            journals.sweep(tasks)
        else:
            yield from run_pipeline(options, tasks, journals=journals, stage=stage, stop=stop)
