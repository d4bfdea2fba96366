"""Batches of training pairs as tensors, made in a separate thread."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.degradation import Degrader
from training.photos import Pixels
from training.recipe import Recipe
from training.shards import Shards


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
    photos: Sequence[Pixels] | Shards, patch: int, size: int, recipe: Recipe, seed: Sequence[int], start: int = 0
) -> Generator[Batch]:
    """Draw batches forever, two ahead in a thread, so that the network never waits for the encoder.

    Args:
        seed: with the number of a batch it decides what is in it, so a run that is resumed at batch ``start`` sees
            what it would have seen.
    """
    shards = photos if isinstance(photos, Shards) else Shards.of(photos)
    ready: queue.Queue[Batch] = queue.Queue(maxsize=2)
    closed = threading.Event()

    def fill() -> None:
        for index in itertools.count(start):
            degrader = Degrader(shards.at(index * size), patch, recipe, (*seed, index))
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
        # A thread still working when the interpreter exits would abort the process.
        closed.set()
        filler.join()


def held_out_batches(
    photos: Sequence[Pixels], patch: int, size: int, recipe: Recipe, count: int, device: torch.device
) -> Iterator[Batch]:
    """Batches to validate on, on the device and the same each time: as many as ``count`` patches need."""
    with closing(batches(photos, patch, size, recipe, seed=(0,))) as drawn:
        for batch in itertools.islice(drawn, -(-count // size)):
            yield to_device(batch, device)


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
