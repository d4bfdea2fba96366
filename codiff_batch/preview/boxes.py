"""Which part of a photo a preview shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

SIDE = 320
"""Longest side of the shown cut, in pixels: at 100 % it fits a phone, at 300 % a desktop screen."""

SURROUNDINGS = 32
"""Pixels around it that the network also sees, as it would within a tile."""

GRID = 32
"""Cuts start at multiples of this: whole MCUs of every sampling with factors 1, 2 and 4."""

BUSY = 24.0
"""Standard deviation of a block's levels above which more detail does not count."""


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels as stored, Orientation not applied."""

    top: int
    left: int
    height: int
    width: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Index of the rectangle in an (H, W, ...) array."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def within(self, outer: Box) -> Box:
        """The same rectangle as seen from another one around it."""
        return replace(self, top=self.top - outer.top, left=self.left - outer.left)

    def grown(self, by: int, height: int, width: int) -> Box:
        """The rectangle with its surroundings, limited to the picture."""
        top, left = max(0, self.top - by), max(0, self.left - by)
        bottom, right = min(height, self.top + self.height + by), min(width, self.left + self.width + by)
        return Box(top, left, bottom - top, right - left)


def telling_box(pixels: NDArray[np.uint8]) -> Box:
    """The part of a photo that shows a change best: much detail beside calmer ground, preferably near the middle.

    Args:
        pixels: (H, W, 3) or (H, W).
    """
    height, width = pixels.shape[:2]
    rows, columns = min(SIDE, height), min(SIDE, width)
    scores = [
        (_telling(pixels[top : top + rows, left : left + columns]) * _central(top, left, pixels.shape, rows, columns))
        for top in _starts(height)
        for left in _starts(width)
    ]
    places = [(top, left) for top in _starts(height) for left in _starts(width)]
    top, left = places[int(np.argmax(scores))]
    return Box(top, left, rows, columns)


def _starts(length: int) -> list[int]:
    """Starts on the grid, half a cut apart, at most twelve."""
    last = max(0, length - SIDE) // GRID * GRID
    count = min(12, 1 + -(-last // (SIDE // 2)))
    return sorted({round(last * i / max(1, count - 1)) // GRID * GRID for i in range(count)})


def _telling(part: NDArray[np.uint8]) -> float:
    gray = part[::2, ::2].astype(np.float32)
    if gray.ndim == 3:
        gray = gray.mean(axis=2)
    rows, columns = (side // 4 * 4 for side in gray.shape)
    if not rows or not columns:
        return 0.0
    busy = gray[:rows, :columns].reshape(rows // 4, 4, columns // 4, 4).std(axis=(1, 3)).clip(0, BUSY)
    return float(busy.mean() + busy.std())


def _central(top: int, left: int, shape: tuple[int, ...], rows: int, columns: int) -> float:
    """From 0.7 in a corner to 1 in the middle, where most photos have their subject."""
    middles = (top + rows / 2) / shape[0], (left + columns / 2) / shape[1]
    away = [abs(2 * middle - 1) for middle in middles]
    return 1 - 0.3 * max(away)
