"""Takes one photo through the commit step of the real program, for tests that kill it there.

Run as ``python -m tests.faults.commit PHOTOS BACKUP MODEL``. It prints "ready", waits for a line, rewrites the only
photo of the folder in place with its backup, and ends. No network takes part: the picture is the source's own pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from codiff_batch.batch.journals import Journals, folders_of
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.plan import plan
from codiff_batch.batch.process import PhotoSteps, Work
from codiff_batch.engine.judge import judge


def commit(photos: Path, backup: Path, model: Path, *, wait: bool = False) -> Work:
    """Rewrite the only photo of a folder."""
    from dataclasses import replace

    options = BatchOptions((photos,), model=str(model), in_place=True, backup=backup, constrain=False)
    (task,) = plan(options)
    with Journals(options, folders_of([task]), [task]) as journals:
        journals.sweep([task])
        steps = PhotoSteps(options, journals, lambda task, doing: None)
        work = Work(task)
        steps.attempt(work, steps.open)
        steps.attempt(work, steps.decode)
        if work.outcome is None:
            assert work.photo is not None
            work.verdict = replace(judge(work.photo.header.qf, None, 60), estimated_qf=20.0)
        levels = None if work.pixels is None else np.asarray(work.pixels, np.float32)
        if wait:
            from codiff_batch.engine import settle  # noqa: F401  all imports are done before the killing begins

            steps._encode(work.photo, work.pixels, 20.0)  # type: ignore[arg-type]
            print("ready", flush=True)  # noqa: T201
            sys.stdin.readline()
        steps.attempt(work, lambda work: steps.finish(work, levels))  # type: ignore[arg-type]
        steps.record(work)
    return work


if __name__ == "__main__":
    commit(*(Path(argument) for argument in sys.argv[1:]), wait=True)
