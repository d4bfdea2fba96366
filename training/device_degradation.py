"""Training pairs made on the device: photos are in its memory, and libjpeg's arithmetic runs there.

The same recipe as :mod:`training.degradation`, drawn for a whole batch at a time. One sampling and one grid shift
apply to all pairs of a batch, which keeps the device busy; pairs downscaled between two compressions are not supported.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor

from training.batches import Batch
from training.jpeg_simulation import Sampling, simulate
from training.photos import Pixels
from training.recipe import GRID, Encoding, Recipe, draw_plan
from training.shards import Shards

SAMPLINGS: tuple[Sampling, ...] = ("4:4:4", "4:2:2", "4:2:0")
"""By Pillow's codes."""


class DeviceDegrader:
    """Draws batches from photos kept on a device.

    Args:
        photos: RGB, no smaller than the patch and a block; smaller ones are left out. Shards are brought to the device
            when it is their turn.
        patch: side of the patches, a multiple of 16.

    Raises:
        ValueError: the recipe or the patch cannot be made here.
    """

    def __init__(self, photos: Sequence[Pixels] | Shards, patch: int, recipe: Recipe, device: torch.device) -> None:
        only_on_cpu = ("resized", "resized_after", "noisy", "blurred")
        if asked := [name for name in only_on_cpu if getattr(recipe, name)]:
            raise ValueError(f"{asked[0]} pairs cannot be made on the device")
        if patch % 16:
            raise ValueError("on the device, the patch must be a multiple of 16")
        self._side = patch + 2 * GRID  # room for a shift, and still a multiple of the MCU
        self._shards = photos if isinstance(photos, Shards) else Shards.of(photos)
        self._shard: list[Pixels] = []
        self._photos: list[Tensor] = []
        self._patch, self._recipe, self._device = patch, recipe, device

    def batches(self, size: int, seed: Sequence[int], start: int = 0) -> Generator[Batch]:
        """Draw batches forever; seed and number decide what is in each, as in :func:`training.batches.batches`."""
        number = start
        while True:
            yield self.draw(size, np.random.default_rng((*seed, number)), number * size)
            number += 1

    def draw(self, size: int, rng: np.random.Generator, drawn: int = 0) -> Batch:
        """Make one batch, on the device.

        Args:
            size: pairs.
            rng: decides what is in it.
            drawn: how many pairs were drawn before, which decides whose turn it is.

        Raises:
            ValueError: no photo is large enough.
        """
        self._bring(self._shards.at(drawn))
        plans = [draw_plan(self._recipe, rng) for _ in range(size)]
        source = torch.stack([self._crop(rng) for _ in plans])
        gray = self._some([plan.gray for plan in plans])
        source = torch.where(gray, _luma(source), source)
        twice = [plan.second is not None for plan in plans]
        dy, dx = next((plan.shift for plan in plans if plan.second), (0, 0))
        place = (..., slice(dy, dy + self._patch), slice(dx, dx + self._patch))
        clean = source[place]
        # Compressed once on the patch's own grid, or twice with the first grid where the source has it.
        firsts, seconds = [plan.first for plan in plans], [plan.second for plan in plans]
        once = self._compress(clean, firsts, gray)
        again = self._compress(self._compress(source, firsts, gray)[place], seconds, gray)
        compressed = torch.where(self._some(twice), again, once)
        compressed = torch.where(self._some([plan.first is None for plan in plans]), clean, compressed)
        qf = torch.tensor([plan.qf for plan in plans], device=self._device)
        tables = torch.from_numpy(np.stack([plan.told for plan in plans]).astype(np.float32)).to(self._device)
        return Batch(clean.float() / 255, compressed.float() / 255, qf, tables)

    def _bring(self, shard: list[Pixels]) -> None:
        """Bring a shard's photos to the device, unless they are there."""
        if shard is self._shard:
            return
        large = [photo for photo in shard if min(photo.shape[:2]) >= self._side]
        if not large:
            raise ValueError(f"no photo has room for {self._side} pixels a side")
        self._shard, self._photos = shard, []  # First the earlier ones go.
        self._photos = [torch.from_numpy(photo.copy()).to(self._device).permute(2, 0, 1) for photo in large]

    def _crop(self, rng: np.random.Generator) -> Tensor:
        photo = self._photos[rng.integers(len(self._photos))]
        top, left = (int(rng.integers(length - self._side + 1)) for length in photo.shape[1:])
        crop = torch.rot90(photo[:, top : top + self._side, left : left + self._side], int(rng.integers(4)), (1, 2))
        return crop.flip(2) if rng.random() < 0.5 else crop

    def _compress(self, source: Tensor, encodings: Sequence[Encoding | None], gray: Tensor) -> Tensor:
        """Compress RGB (B, 3, H, W), all with the sampling of the first that there is; gray has no chroma to lose."""
        drawn = [encoding for encoding in encodings if encoding is not None]
        if not drawn:
            return source
        # Where there is none the result is not used.
        steps = np.stack([(encoding or drawn[0]).steps for encoding in encodings]).astype(np.int32)
        done = simulate(source, torch.from_numpy(steps).to(self._device), SAMPLINGS[drawn[0].subsampling])
        return torch.where(gray, _luma(done), done)

    def _some(self, which: Sequence[bool]) -> Tensor:
        """A mask over images (B, 1, 1, 1)."""
        return torch.tensor(which, device=self._device)[:, None, None, None]


def _luma(image: Tensor) -> Tensor:
    """Gray as Pillow has it (ITU-R 601-2), in all three channels."""
    red, green, blue = image.int().unbind(1)
    gray = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return gray[:, None].expand(-1, 3, -1, -1).to(image.dtype)
