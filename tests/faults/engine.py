"""A generator that fails on purpose, around a real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from codiff_batch.engine import Restorer
from codiff_batch.models.loading import Networks


class Faulty(nn.Module):
    """Asks before each step whether to fail; ``fails(call, images)`` gets the number of the call, from 1."""

    def __init__(self, inner: nn.Module, fails: Callable[[int, Tensor], bool], error: Exception | None = None) -> None:
        super().__init__()
        self.inner, self.fails = inner, fails
        self.error = error or torch.OutOfMemoryError("CUDA out of memory (injected)")
        self.calls: list[tuple[int, ...]] = []

    def forward(self, images: Tensor, *arguments: Any, **named: Any) -> Tensor:
        self.calls.append(tuple(images.shape))
        if self.fails(len(self.calls), images):
            raise type(self.error)(*self.error.args)  # a new one: a kept one would keep the tensors of its traceback
        result: Tensor = self.inner(images, *arguments, **named)
        return result


def with_faults(
    restorer: Restorer, fails: Callable[[int, Tensor], bool], *, batch: int = 1, error: Exception | None = None
) -> tuple[Restorer, Faulty]:
    """A restorer of the same model whose generator fails on purpose."""
    faulty = Faulty(restorer.networks.generator, fails, error)
    networks = Networks(restorer.networks.cave, faulty)
    return Restorer(restorer.card, networks, torch.device("cpu"), batch=batch), faulty
