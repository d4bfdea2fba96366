"""What both stages share: configuration, the learning-rate schedule, averaged weights, and checkpoints that resume."""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
import tomllib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from training.degradation import Degrader, Recipe
from training.photos import Pixels

Config = TypeVar("Config")

CHECKPOINT = "checkpoint.pt"


def read_config(path: Path, kind: type[Config]) -> Config:
    """Read a TOML file into a dataclass; unknown names are an error, missing ones keep their default."""
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{path}: unknown setting {', '.join(unknown)}; known are {', '.join(known)}")
    if "recipe" in values:
        values["recipe"] = Recipe(**values["recipe"])
    return kind(**values)


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a cosine to zero, or a constant rate that cools down late; over steps or over minutes."""

    rate: float
    steps: int = 0
    minutes: float = 0.0
    warmup: int = 500
    """In steps."""
    cooldown: float = 0.0
    """Share of the schedule, at its end, over which a constant rate falls as 1 - sqrt; 0 is a cosine over all of it."""

    def progress(self, step: int, seconds: float) -> float:
        """Share of the training that is done, 0..1; 1 means stop."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / 60 / self.minutes if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def rate_at(self, step: int, seconds: float) -> float:
        """Learning rate for this step."""
        done = self.progress(step, seconds)
        if self.cooldown:
            # Of the usual ends of a constant rate it loses least (Hägele et al. 2024).
            left = 1 - math.sqrt(max(0.0, 1 - (1 - done) / self.cooldown))
        else:
            left = 0.5 * (1 + math.cos(math.pi * done))
        return self.rate * left * min(1.0, (step + 1) / max(1, self.warmup))


class Batch(NamedTuple):
    """Training pairs as tensors."""

    clean: Tensor
    """(B, 3, P, P) in [0, 1]"""
    compressed: Tensor
    """(B, 3, P, P) in [0, 1]"""
    qf: Tensor
    """(B,), 1..100"""
    tables: Tensor
    """(B, 2, 8, 8), quantization steps; zero where unknown"""


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to where the networks are, images laid out for convolutions."""
    images = [t.to(device, memory_format=torch.channels_last) for t in (batch.clean, batch.compressed)]
    return Batch(*images, batch.qf.to(device), batch.tables.to(device))


def batches(
    photos: list[Pixels], patch: int, size: int, recipe: Recipe, seed: Sequence[int], start: int = 0
) -> Generator[Batch]:
    """Draw batches for ever, two ahead in a thread, so that the encoder never keeps the network waiting.

    Args:
        seed: with the number of a batch it decides what is in it, so a run that is resumed at batch ``start`` sees
            what it would have seen.
    """
    ready: queue.Queue[Batch] = queue.Queue(maxsize=2)
    closed = threading.Event()

    def fill() -> None:
        for index in itertools.count(start):
            degrader = Degrader(photos, patch, recipe, (*seed, index))
            batch = _collate([degrader.draw() for _ in range(size)])
            while not closed.is_set():
                with suppress(queue.Full):
                    ready.put(batch, timeout=0.1)
                    break
            if closed.is_set():
                return

    filler = threading.Thread(target=fill, daemon=True)
    filler.start()
    try:
        while True:
            yield ready.get()
    finally:
        # A thread that is still at work when the interpreter ends would abort the process.
        closed.set()
        filler.join()


def _collate(pairs: list[Any]) -> Batch:
    def images(name: str) -> Tensor:
        stacked = torch.from_numpy(np.stack([getattr(pair, name) for pair in pairs]))
        return stacked.permute(0, 3, 1, 2).float() / 255

    return Batch(
        images("clean"),
        images("compressed"),
        torch.tensor([pair.qf for pair in pairs]),
        torch.from_numpy(np.stack([pair.tables for pair in pairs]).astype(np.float32)),
    )


class Loss(NamedTuple):
    """What an objective says of a batch."""

    total: Tensor
    """Scalar, to be made small."""
    parts: dict[str, float]
    """What the curves show."""
    real: Tensor | None = None
    fake: Tensor | None = None
    """Latents for the discriminator to tell apart, where there is one."""


def learned_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module without the parameters that are frozen: a LoRA run need not keep its base model."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def load_learned_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put back what :func:`learned_state` gave.

    Raises:
        RuntimeError: the state is of another module.
    """
    missing = set(learned_state(module)) ^ set(state)
    if missing:
        raise RuntimeError(f"the checkpoint does not fit the networks: {', '.join(sorted(missing)[:5])} ...")
    module.load_state_dict(dict(state), strict=False)


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], per image; at most 60 dB (an untouched pair)."""
    error = (image.clamp(0, 1) - reference).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error.clamp(min=1e-6))


class Average:
    """Exponential moving average of what a module learns, with the usual ramp at the start."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in learned_state(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's weights of this step."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in learned_state(module).items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)

    @contextmanager
    def inside(self, module: nn.Module) -> Iterator[None]:
        """Let a module have the averaged weights for a while, in evaluation mode."""
        own = {name: value.detach().clone() for name, value in learned_state(module).items()}
        load_learned_state(module, self.weights)
        module.eval()
        try:
            yield
        finally:
            load_learned_state(module, own)
            module.train()


class Stateful(Protocol):
    """An optimizer, for a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """What has to be kept."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Put it back."""


class Run:
    """One training run: steps, clock and checkpoints.

    The clock counts training only, so a run that was stopped goes on where it was.

    Args:
        modules: what learns, by name; the first one is what the run is for, and what ``average`` follows.
        optimizers: of each module, by the same names.
        branch: folder of another run, whose networks and optimizers this one begins with, on a schedule of its own.
    """

    def __init__(
        self,
        folder: Path,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, Stateful],
        average: Average,
        branch: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.step, self._spent = folder, 0, 0.0
        self.modules, self.optimizers, self.average = modules, optimizers, average
        self._started = time.monotonic()
        if self.checkpoint.exists():
            self.step, self._spent = self._resume(self.checkpoint)
        elif branch is not None:
            self._resume(branch / CHECKPOINT)

    @property
    def module(self) -> nn.Module:
        """What the run is for."""
        return next(iter(self.modules.values()))

    @property
    def checkpoint(self) -> Path:
        """Where the resumable state lies."""
        return self.folder / CHECKPOINT

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier runs included."""
        return self._spent + time.monotonic() - self._started

    def save(self) -> None:
        """Write everything that is needed to go on; an interrupted write leaves the old checkpoint."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "average": self.average.weights,
            "modules": {name: learned_state(module) for name, module in self.modules.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }
        partial = self.checkpoint.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def _resume(self, checkpoint: Path) -> tuple[int, float]:
        """Take over a checkpoint's state; returns its steps and seconds."""
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
        for name, module in self.modules.items():
            load_learned_state(module, state["modules"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, value in state["average"].items():
            self.average.weights[name].copy_(value)
        return state["step"], state["seconds"]


def averaged_weights(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of the run in a folder, on the CPU."""
    state: dict[str, dict[str, Tensor]] = torch.load(folder / CHECKPOINT, weights_only=True, map_location="cpu")
    return state["average"]


def train(
    run: Run,
    schedule: Schedule,
    data: Iterator[Batch],
    step: Callable[[Batch, float], dict[str, float]],
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
        step: does one step of every optimizer at the learning rate it is given, and returns the losses.
        seed: with the number of a step it decides what the networks draw at random in it.
        save_every, validate_every: seconds of training between checkpoints and validations.
        writes: whether this process keeps checkpoints and curves; one of several does.
        agree: makes of this process's clock, in seconds, the one that all processes go by.
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
            for name, value in losses.items():
                curves.add_scalar(f"train/{name}", value, run.step)
            log(f"step {run.step} {run.seconds / 60:.1f} min " + " ".join(f"{k} {v:.4f}" for k, v in losses.items()))
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
