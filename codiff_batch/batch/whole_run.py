"""The door to a whole run, for the command line and for programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.plan import Task, plan
from codiff_batch.batch.process import Stage
from codiff_batch.batch.run import run_batch
from codiff_batch.models.catalogue import find


def run(
    options: BatchOptions,
    *,
    planned: Callable[[Sequence[Task]], None] = lambda tasks: None,
    stage: Stage = lambda task, doing: None,
    stop: threading.Event | None = None,
) -> Generator[Outcome]:
    """Find the photos, restore them, and yield what becomes of each as soon as it is known.

    The same as the command line does::

        from pathlib import Path
        from codiff_batch import BatchOptions, run

        for outcome in run(BatchOptions((Path("photos"),))):
            print(outcome.source, outcome.outcome, outcome.reason)

    Args:
        options: what to do.
        planned: called once, with all photos in their order and where their outputs go.
        stage: called with what is being done to which photo, from worker threads; not by several devices or a cluster.
        stop: when set, photos that have come far are finished, and the others left without an outcome.

    Raises:
        OptionsConflict: options cannot be meant together, or outputs would land on their sources.
        FolderLocked: another run is at work in an output folder.
        FolderUnavailable: an output folder cannot be written to.
        ModelError, DeviceUnavailable: no photo can be restored.
    """
    options.check()
    find(options.model, options.models_dir)
    tasks = plan(options)
    planned(tasks)
    yield from run_batch(options, tasks, stage=stage, stop=stop)
