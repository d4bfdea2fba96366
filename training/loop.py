"""The loop of every stage: steps, curves, validations and checkpoints, to the end of the schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from training.batches import Batch
from training.run import Run
from training.schedule import Schedule


def train(
    run: Run,
    schedule: Schedule,
    data: Iterator[Batch],
    step: Callable[[Batch, float], dict[str, Tensor]],
    *,
    seed: int,
    validate: Callable[[], dict[str, float]],
    save_every: float = 120,
    validate_every: float = 1200,
    writes: bool = True,
    agree: Callable[[float], float] = float,
    log: Callable[[str], None] = print,
) -> None:
    """Run the loop to the end of the schedule.

    Args:
        step: does one step of every optimizer at the learning rate it is given, and returns the losses, which
            stay on the device until printed: reading one waits for all queued work.
        seed: together with a step's number it decides the networks' random draws in that step.
        save_every, validate_every: seconds of training between checkpoints and validations.
        writes: whether this process keeps checkpoints and curves; one of several does.
        agree: turns this process's clock, in seconds, into the one that all processes use.
    """
    from torch.utils.tensorboard import SummaryWriter

    curves = SummaryWriter(str(run.folder)) if writes else None
    saved = validated = run.seconds
    while schedule.progress(run.step, now := agree(run.seconds)) < 1:
        torch.manual_seed(seed + run.step)
        losses = step(next(data), schedule.rate_at(run.step, now))
        run.average.update(run.module, run.step)
        run.step += 1
        if curves is None:
            continue
        if run.step % 100 == 0:
            told = {name: float(value) for name, value in losses.items()}
            for name, value in told.items():
                curves.add_scalar(f"train/{name}", value, run.step)
            log(f"step {run.step} {run.seconds / 60:.1f} min " + " ".join(f"{k} {v:.4f}" for k, v in told.items()))
        if run.seconds - saved > save_every:
            run.save()
            saved = run.seconds
        if run.seconds - validated > validate_every or schedule.progress(run.step, run.seconds) >= 1:
            with run.average.inside(run.module):
                scores = validate()
            validated = run.seconds
            for name, value in scores.items():
                curves.add_scalar(f"validation/{name}", value, run.step)
            log(f"validation at step {run.step}: " + " ".join(f"{k} {v:.3f}" for k, v in scores.items()))
    if curves is not None:
        run.save()
        curves.close()
