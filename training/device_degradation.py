"""Training pairs made on the device: photos lie in its memory, and libjpeg's arithmetic is done there.

The same recipe as :mod:`training.degradation`, drawn for a whole batch at a time. One sampling and one grid shift go
for all pairs of a batch, which keeps the device busy; pairs made smaller between two compressions are not made here.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor

from codiff_batch.jpeg.quantization import ijg_table
from training.degradation import AUTHORS_FAVOURITES, Recipe, camera_encodings
from training.jpeg_simulation import Sampling, simulate
from training.loop import Batch
from training.photos import Pixels

GRID = 8


class DeviceDegrader:
    """Draws batches from photos that are kept on a device.

    Args:
        photos: RGB, no smaller than the patch and a block; smaller ones are left out.
        patch: side of the patches, a multiple of 16.

    Raises:
        ValueError: the recipe or the patch cannot be made here, or no photo is large enough.
    """

    def __init__(self, photos: Sequence[Pixels], patch: int, recipe: Recipe, device: torch.device) -> None:
        only_on_cpu = ("resized", "resized_after", "mozjpeg", "noisy", "blurred")
        if asked := [name for name in only_on_cpu if getattr(recipe, name)]:
            raise ValueError(f"{asked[0]} pairs are not made on the device")
        if patch % 16:
            raise ValueError("on the device the patch must be a multiple of 16")
        self._side = patch + 2 * GRID  # room for a shift, and still a multiple of the MCU
        large = [photo for photo in photos if min(photo.shape[:2]) >= self._side]
        if not large:
            raise ValueError(f"no photo has room for {self._side} pixels a side")
        self._photos = [torch.from_numpy(photo.copy()).to(device).permute(2, 0, 1) for photo in large]
        self._patch, self._recipe, self._device = patch, recipe, device
        tables = [[ijg_table(qf, chroma=chroma) for chroma in (False, True)] for qf in range(1, 101)]
        cameras = camera_encodings()
        own = [np.array(encoding.tables).reshape(2, 8, 8) for encoding in cameras]
        self._tables = torch.from_numpy(np.concatenate((np.array(tables), own)).astype(np.int32)).to(device)
        self._qfs = np.array([*range(1, 101), *(encoding.qf for encoding in cameras)], np.float32)

    def batches(self, size: int, seed: Sequence[int], start: int = 0) -> Generator[Batch]:
        """Draw batches for ever; seed and number decide what is in each, as in :func:`training.loop.batches`."""
        number = start
        while True:
            yield self.draw(size, np.random.default_rng((*seed, number)))
            number += 1

    def draw(self, size: int, rng: np.random.Generator) -> Batch:
        """Make one batch, on the device."""
        recipe, patch = self._recipe, self._patch
        source = torch.stack([self._crop(rng) for _ in range(size)])
        gray = self._some(rng.random(size) < recipe.gray)
        source = torch.where(gray, _luma(source), source)
        first = self._draw_tables(rng, size)
        twice, untouched = rng.random(size) < recipe.double, rng.random(size) < recipe.untouched
        dy, dx = (int(v) for v in rng.integers(0, GRID, 2)) if rng.random() < recipe.shifted else (0, 0)
        place = (..., slice(dy, dy + patch), slice(dx, dx + patch))
        # Compressed once on the patch's own grid, or twice with the first grid where the source has it.
        once = self._compress(source[place], first, gray, rng)
        before = self._compress(source, first, gray, rng)[place]
        low = np.where(rng.random(size) < recipe.resaved_fine, 85, 20)
        second = np.array([rng.integers(start, 99) for start in low]) - 1
        again = self._compress(before, second, gray, rng)
        clean = source[place]
        compressed = torch.where(self._some(twice), again, once)
        compressed = torch.where(self._some(untouched), clean, compressed)
        qf = np.where(twice, np.minimum(self._qfs[first], self._qfs[second]), self._qfs[first])
        last = torch.from_numpy(np.where(twice, second, first)).to(self._device)
        hidden = untouched | (rng.random(size) < recipe.tables_hidden)
        tables = torch.where(self._some(hidden), 0, self._tables[last]).float()
        told = torch.from_numpy(np.where(untouched, 100, qf).astype(np.float32)).to(self._device)
        return Batch(clean.float() / 255, compressed.float() / 255, told, tables)

    def _crop(self, rng: np.random.Generator) -> Tensor:
        photo = self._photos[rng.integers(len(self._photos))]
        top, left = (int(rng.integers(length - self._side + 1)) for length in photo.shape[1:])
        crop = torch.rot90(photo[:, top : top + self._side, left : left + self._side], int(rng.integers(4)), (1, 2))
        return crop.flip(2) if rng.random() < 0.5 else crop

    def _draw_tables(self, rng: np.random.Generator, size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Rows of the list of tables: QF - 1, or a camera's."""
        recipe = self._recipe
        if recipe.qf_mix == "authors":
            qf = np.where(rng.random(size) < 0.25, rng.integers(8, 96, size), rng.choice(AUTHORS_FAVOURITES, size))
        else:
            low, high = recipe.qf_low, recipe.qf_high
            spread = np.exp(rng.uniform(np.log(low), np.log(high), size))
            qf = np.where(rng.random(size) < 0.5, rng.uniform(low, high, size), spread).round().astype(np.int64)
            qf = np.where(rng.random(size) < recipe.fine, rng.integers(90, 101, size), qf)
        camera = 100 + rng.integers(len(self._qfs) - 100, size=size)
        return np.where(rng.random(size) < recipe.camera_tables, camera, qf - 1)

    def _compress(self, source: Tensor, rows: np.ndarray, gray: Tensor, rng: np.random.Generator) -> Tensor:  # type: ignore[type-arg]
        """Compress RGB (B, 3, H, W) by rows of the list of tables; gray pairs have no chroma to lose."""
        draw, recipe = rng.random(), self._recipe
        sampling: Sampling = "4:4:4"
        if draw < recipe.chroma_420 + recipe.chroma_422:
            sampling = "4:2:0" if draw < recipe.chroma_420 else "4:2:2"
        done = simulate(source, self._tables[torch.from_numpy(rows).to(self._device)], sampling)
        return torch.where(gray, _luma(done), done)

    def _some(self, which: np.ndarray) -> Tensor:  # type: ignore[type-arg]
        """A mask over images (B, 1, 1, 1)."""
        return torch.from_numpy(which).to(self._device)[:, None, None, None]


def _luma(image: Tensor) -> Tensor:
    """Gray as Pillow has it (ITU-R 601-2), in all three channels."""
    red, green, blue = image.int().unbind(1)
    gray = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return gray[:, None].expand(-1, 3, -1, -1).to(image.dtype)
