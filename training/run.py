"""One training run: its steps, its clock, and the checkpoints it resumes from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.average import Average, learned_state, load_learned_state

CHECKPOINT = "checkpoint.pt"


class Stateful(Protocol):
    """An optimizer, for a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Load a state."""


class Run:
    """One training run: steps, clock and checkpoints.

    The clock counts training time only, so a stopped run resumes where it was.

    Args:
        modules: what learns, by name; the first one is what the run is for, and what ``average`` follows.
        optimizers: of each module, by the same names.
        branch: folder of another run, whose networks and optimizers this one starts from, on its own schedule.
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
        """The file of the resumable state."""
        return self.folder / CHECKPOINT

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier runs included."""
        return self._spent + time.monotonic() - self._started

    def save(self) -> None:
        """Write everything needed to resume; an interrupted write leaves the old checkpoint."""
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
