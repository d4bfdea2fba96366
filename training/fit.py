"""The way of one stage from its configuration to finished weights; stages differ in networks and objective only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
import torch
from torch import Tensor, nn

from training.degradation import Recipe
from training.loop import Average, Batch, Run, Schedule, batches, to_device, train
from training.photos import Pixels, find_photos, load_photos

Module = TypeVar("Module", bound=nn.Module)
Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True)
class TrainingConfig:
    """What every stage can be told."""

    patch: int = 128
    batch: int = 8
    rate: float = 5e-4
    steps: int = 0
    minutes: float = 0.0
    """The schedule ends after ``steps`` or ``minutes``, whichever is set and comes first."""
    clip: float = 0.5
    """Largest norm of the gradient."""
    average: float = 0.999
    """Decay of the averaged weights, which are the ones that are used."""
    seed: int = 1
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class Group:
    """Parameters that learn at a share of the configured rate."""

    module: nn.Module
    share: float = 1.0


def stage_options(command: Command) -> Command:
    """The arguments that every stage takes."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    for option in (
        click.option("--device", "device", default="auto", show_default=True),
        click.option(
            "--out",
            required=True,
            type=click.Path(file_okay=False, path_type=Path),
            help="Checkpoints and curves; an unfinished run there goes on.",
        ),
        click.option("--photos", "photos", required=True, type=folder, help="Lossless or nearly lossless photos."),
        click.argument("config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    ):
        command = option(command)
    return command


def fit(
    config: TrainingConfig,
    module: Module,
    groups: Sequence[Group],
    objective: Callable[[Module, Batch], tuple[Tensor, dict[str, float]]],
    *,
    fresh: Callable[[], Module],
    scores: Callable[[Module, list[Pixels]], dict[str, float]],
    photos: Path,
    out: Path,
    device: torch.device,
) -> None:
    """Train a module to the end of its schedule, from its checkpoint in ``out`` if there is one.

    Args:
        module: on the device.
        groups: what learns, and how fast; parameters in no group stay as they are.
        objective: the loss of a batch, and its parts for the curves.
        fresh: builds a module of the same kind on the CPU, for the averaged weights to be validated in.
        scores: of a module on photos that are held out.
        photos: folder to train on and to hold out from.
    """
    asked: list[dict[str, Any]] = [{"params": list(g.module.parameters()), "share": g.share} for g in groups]
    optimizer = torch.optim.AdamW(asked, lr=config.rate, betas=(0.9, 0.98), weight_decay=1e-5)
    average = Average(module, config.average)
    run = Run(out, module, optimizer, average)
    for group, wanted in zip(optimizer.param_groups, groups, strict=True):
        group["share"] = wanted.share  # a resumed run follows its configuration, not its checkpoint
    click.echo(f"{asdict(config)}, from step {run.step}")

    def step(batch: Batch) -> dict[str, float]:
        loss, parts = objective(module, to_device(batch, device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        optimizer.step()
        return parts

    def validate() -> dict[str, float]:
        averaged = fresh()
        averaged.load_state_dict(average.weights)
        return scores(averaged, held_out)

    held_out = load_photos(find_photos(photos, held_out=True))
    trained_on = load_photos(find_photos(photos, held_out=False))
    data = batches(trained_on, config.patch, config.batch, config.recipe, seed=config.seed + run.step)
    train(run, Schedule(config.rate, config.steps, config.minutes), data, step, validate=validate, log=click.echo)


def prepare(config: TrainingConfig) -> None:
    """Set the seed and the number of threads."""
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
