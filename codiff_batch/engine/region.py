"""A part of a picture to restore, and as much around it as the networks need to see."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codiff_batch.models.card import ModelCard

LARGEST_MCU = 16
"""Pixels to a side of JPEG's largest common unit of blocks."""


@dataclass(frozen=True)
class Region:
    """Rows and columns of a picture."""

    place: tuple[slice, slice]
    """What was asked for."""
    window: tuple[slice, slice]
    """What the networks see: with as much around it as tiles overlap, on their grid and JPEG's."""

    @classmethod
    def of(cls, place: tuple[slice, slice], size: tuple[int, int], card: ModelCard) -> Region:
        """A region of a picture of (height, width) for a model."""
        margin, grid = card.overlap, math.lcm(card.multiple, LARGEST_MCU)

        def widened(part: slice, side: int) -> slice:
            start = max(0, part.start - margin) // grid * grid
            return slice(start, min(side, -(-(part.stop + margin) // grid) * grid))

        return cls(place, (widened(place[0], size[0]), widened(place[1], size[1])))

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where the place lies in the window."""
        rows, columns = (
            slice(part.start - around.start, part.stop - around.start)
            for part, around in zip(self.place, self.window, strict=True)
        )
        return rows, columns
