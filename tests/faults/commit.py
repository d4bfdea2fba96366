"""Takes one photo through the commit step of the real program, for tests that kill it there.

Run as ``python -m tests.faults.commit PHOTOS BACKUP MODEL``. It prints "ready", waits for a line, rewrites the only
photo of the folder in place with its backup, and ends. No network takes part: the picture is the source's own pixels.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from codiff_batch.batch.journals import Journals, folders_of
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.plan import plan
from codiff_batch.batch.process import PhotoSteps, Ready, Work
from codiff_batch.engine.judge import Action, Ground, Verdict
from codiff_batch.engine.photo import Judged
from codiff_batch.engine.stream import Embedding
from codiff_batch.settings import Settings


def commit(photos: Path, backup: Path, model: Path, *, wait: bool = False) -> Work:
    """Rewrite the only photo of a folder."""
    options = BatchOptions(
        (photos,), model=str(model), in_place=True, backup=backup, settings=Settings(constrain=False)
    )
    (task,) = plan(options)
    with Journals(options, folders_of([task]), [task]) as journals:
        journals.sweep([task])
        steps = PhotoSteps(options, journals, lambda task, doing: None)
        work = Work(task)
        opened = steps.attempt(work, lambda: steps.open(work))
        sight = opened and steps.attempt(work, lambda: steps.decode(opened))
        if sight is not None:
            verdict = Verdict(Action.RESTORE, Ground.HEADER, "header says so", sight.opened.photo.header.qf, 20.0)
            ready = Ready(sight.opened, Judged(sight.decoded, Embedding((), 20.0), verdict))
            if wait:
                from codiff_batch.engine.settling import settled  # noqa: F401  all is imported before the killing begins

                steps._encode(ready, sight.decoded.pixels)
                print(os.getpid(), flush=True)  # noqa: T201
                sys.stdin.readline()
            steps.attempt(work, lambda: steps.finish(ready, np.asarray(sight.decoded.pixels, np.float32)))
        steps.record(work)
    return work


if __name__ == "__main__":
    commit(*(Path(argument) for argument in sys.argv[1:]), wait=True)
