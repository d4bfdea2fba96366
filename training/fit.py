"""One stage from its configuration to finished weights; stages differ only in networks and objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import broadcast
from torch import Tensor, nn

from training.adversary import Adversary
from training.average import Average
from training.batches import Batch, batches, to_device
from training.device_degradation import DeviceDegrader
from training.documents import draw_documents
from training.loop import train
from training.losses import Loss
from training.patterns import draw_patterns
from training.photos import Pixels, find_photos, load_photos
from training.recipe import Recipe
from training.run import Run
from training.schedule import Schedule
from training.shards import Shards

HELD_OUT = 500
"""Held-out photos that are looked at; of more, evenly spaced ones."""

Module = TypeVar("Module", bound=nn.Module)
Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of every stage."""

    patch: int = 128
    batch: int = 8
    rate: float = 5e-4
    steps: int = 0
    minutes: float = 0.0
    """The schedule ends after ``steps`` or ``minutes``, whichever is set and comes first."""
    warmup: int = 500
    """Steps of linear warm-up."""
    cooldown: float = 0.0
    """Share of the schedule, at its end, over which a constant rate falls as 1 - sqrt; 0 is a cosine over all of it."""
    clip: float = 0.5
    """Largest norm of the gradient."""
    average: float = 0.999
    """Decay of the averaged weights, which are the ones that are used."""
    seed: int = 1
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    photos_gb: float = 8.0
    """Decoded photos in memory at a time, in gigabytes a process; those of a larger set take turns."""
    on_device: bool = False
    """Make the pairs on the device, with the photos in its memory, instead of by libjpeg on the CPU."""
    precision: Literal["no", "bf16"] = "no"
    """Of the arithmetic; bf16 for GPUs and some CPUs: slower on Intel's without AMX, faster on AMD's from Zen 4 on."""
    gan_rate_share: float = 1.0
    """The discriminator's learning rate as a share of the generator's."""
    patterns: int = 0
    """How many drawn patterns (:mod:`training.patterns`) are among the photos."""
    documents: int = 0
    """How many drawn pages, screens, charts etc. (:mod:`training.documents`) are among them."""
    measured: int = 192
    """How many patches of held-out photos a validation looks at; the compact model's also at drawn patterns."""
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class Group:
    """Parameters that learn at a fraction of the configured rate."""

    module: nn.Module
    share: float = 1.0


def stage_options(command: Command) -> Command:
    """The arguments that every stage takes."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    for option in (
        click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True),
        click.option(
            "--out",
            required=True,
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder for checkpoints and curves; an unfinished run there is resumed.",
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
    objective: Callable[[Module, Batch], Loss],
    *,
    adversary: Adversary | None = None,
    scores: Callable[[list[Pixels]], dict[str, float]],
    photos: Path,
    out: Path,
    branch: Path | None = None,
    accelerator: Accelerator,
) -> None:
    """Train a module to the end of its schedule, from its checkpoint in ``out`` if there is one.

    Args:
        module: what learns. With several processes it is called through its ``forward`` only.
        groups: its parts, and how fast each learns; parameters in no group, and frozen ones, do not change.
        objective: the loss of a batch.
        adversary: trained alongside, to tell the objective's real latents from its fake ones.
        scores: of the module, with its averaged weights, on held-out photos.
        photos: folder to train on and to hold out from.
        branch: folder of another run, whose state this one starts from.
    """
    asked = [{"params": _learning(group.module), "share": group.share} for group in groups]
    modules: dict[str, nn.Module] = {"module": module}
    optimizers = {"module": torch.optim.AdamW(asked, betas=(0.9, 0.98), weight_decay=1e-5, fused=True)}
    if adversary is not None:
        modules["adversary"] = adversary
        # The share balances the two players (two time-scale update rule, Heusel et al. 2017).
        rival: list[dict[str, Any]] = [{"params": _learning(adversary), "share": config.gan_rate_share}]
        optimizers["adversary"] = torch.optim.AdamW(rival, betas=(0.5, 0.98), weight_decay=1e-5, fused=True)
    for part in modules.values():
        part.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(out, modules, optimizers, Average(module, config.average), branch)
    wrapped = {name: accelerator.prepare(part) for name, part in modules.items()}
    accelerator.print(f"{asdict(config)}, from step {run.step}")

    def descend(name: str, loss: Tensor, rate: float) -> None:
        optimizer = optimizers[name]
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(modules[name].parameters(), config.clip)
        optimizer.step()

    def step(batch: Batch, rate: float) -> dict[str, Tensor]:
        with accelerator.autocast():
            loss = objective(wrapped["module"], to_device(batch, accelerator.device))
        descend("module", loss.total, rate)
        if adversary is not None and loss.real is not None and loss.fake is not None:
            with accelerator.autocast():
                rivalry = wrapped["adversary"](loss.real, loss.fake)
            descend("adversary", rivalry, rate)
            loss.parts["discriminator"] = rivalry.detach()
        return loss.parts

    def agree(seconds: float) -> float:
        # One process has nothing to agree on, and asking would cost a wait in each step.
        alone = accelerator.num_processes == 1
        return seconds if alone else float(broadcast(torch.tensor(seconds, device=accelerator.device)))

    held_out = _held_out(photos) if accelerator.is_main_process else []
    seed = config.seed, accelerator.process_index
    drawn = draw_patterns(config.patterns) + draw_documents(config.documents)
    trained_on = Shards(find_photos(photos, held_out=False), int(config.photos_gb * 1e9), seed, always=drawn)
    if config.on_device:
        degrader = DeviceDegrader(trained_on, config.patch, config.recipe, accelerator.device)
        data = degrader.batches(config.batch, seed, start=run.step)
    else:
        data = batches(trained_on, config.patch, config.batch, config.recipe, seed, start=run.step)
    with closing(data):
        train(
            run,
            Schedule(config.rate, config.steps, config.minutes, config.warmup, config.cooldown),
            data,
            step,
            seed=config.seed * 2**32 + accelerator.process_index * 2**24,
            validate=lambda: scores(held_out),
            writes=accelerator.is_main_process,
            agree=agree,
            log=click.echo,
        )
    accelerator.end_training()


def _held_out(photos: Path) -> list[Pixels]:
    paths = find_photos(photos, held_out=True)
    return load_photos(paths[:: -(-len(paths) // HELD_OUT)])


def _learning(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def prepare(config: TrainingConfig, device: str) -> Accelerator:
    """Set the seed and the number of threads, and choose the devices.

    Args:
        device: ``cpu``, or ``auto`` for one GPU, or as many as ``accelerate launch`` starts processes for.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    # Some configurations leave parameters out, such as a frozen CaVE's.
    several = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    # Several processes may be paused for hours (SIGSTOP) and go on; by default they give up after 30 minutes.
    patient = InitProcessGroupKwargs(timeout=timedelta(days=30))
    return Accelerator(cpu=device == "cpu", mixed_precision=config.precision, kwargs_handlers=[several, patient])
