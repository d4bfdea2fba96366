"""The few crops of a photo that CaVE looks at.

Compression is the same all over a photo, so a handful of crops tells as much as the whole (measured:
27.29 against 27.30 dB for the restoration they guide), at a cost that does not grow with the photo.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CROP = 128
"""Side of a crop in pixels: four tokens."""
COUNT = 6
GRID = 10
"""At most this many candidates along each side."""
ALIGNMENT = 16
"""Crops start on the grid of the largest common MCU, so that CaVE sees 8x8 blocks where they are."""


def textured_crops(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Choose up to six crops of 128x128 with much texture, from (H, W, 3) or (H, W) pixels.

    Flat areas (sky, black borders) say little about compression. Pictures in which no two crops fit side by
    side come back as one crop, at most 256 pixels a side.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < CROP or max(height, width) < 2 * CROP:
        return [pixels[: 2 * CROP, : 2 * CROP]]
    candidates = [pixels[top : top + CROP, left : left + CROP] for top in _starts(height) for left in _starts(width)]
    ranked = sorted(candidates, key=_texture, reverse=True)
    return ranked[:COUNT]


def _starts(length: int) -> list[int]:
    """Evenly spread, non-overlapping starts of crops along one side."""
    count = min(GRID, length // CROP)
    if count == 1:
        return [(length - CROP) // 2 // ALIGNMENT * ALIGNMENT]
    step = (length - CROP) / (count - 1)
    return [int(i * step) // ALIGNMENT * ALIGNMENT for i in range(count)]


def _texture(crop: NDArray[np.uint8]) -> float:
    """Median activity of the crop's 8x8 blocks: high for texture everywhere, low for one hard edge on flat ground."""
    channels = np.atleast_3d(crop).transpose(2, 0, 1)
    gray = sum(channels[1:], channels[0].astype(np.uint16))
    # A block to a row: numpy sums rows many times faster than columns.
    blocks = gray.reshape(CROP // 8, 8, CROP // 8, 8).swapaxes(1, 2).reshape(-1, 64).astype(np.float32)
    return float(np.median(blocks.std(axis=1))) / len(channels)
