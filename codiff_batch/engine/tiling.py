"""Cuts a picture into overlapping tiles and weighs them so that their sum is the picture.

The grid of tiles is separable, so the blending weights are too: along each axis they are ramps over the
overlap which add up to one at every pixel, and nothing has to be divided out afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Span:
    """One tile along one axis."""

    start: int
    stop: int
    weights: NDArray[np.float32]
    """(stop - start,), in [0, 1]; over all spans of the axis they add up to one at each pixel."""


@dataclass(frozen=True)
class Tile:
    """One tile: rows and columns of the picture with their blending weights."""

    rows: Span
    columns: Span

    @property
    def place(self) -> tuple[slice, slice]:
        """Index of the tile in an (H, W, ...) array."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)

    @property
    def weights(self) -> NDArray[np.float32]:
        """(h, w, 1) blending weights."""
        return (self.rows.weights[:, None] * self.columns.weights[None, :])[..., None]


@dataclass(frozen=True)
class Geometry:
    """How pictures are cut."""

    tile: int
    overlap: int
    multiple: int
    one_size: bool = False
    """Whether all that the networks get is of the tile's size, small pictures included: some runtimes prepare
    themselves for each size."""

    def smaller(self) -> Geometry | None:
        """Tiles of half the side, or None where that would be too little for the networks."""
        half = self.tile // 2
        return self.of_side(half) if half >= 2 * self.multiple else None

    def of_side(self, side: int) -> Geometry:
        """Tiles of about another side; at most half of a tile is overlap."""
        tile = max(side // self.multiple, 2) * self.multiple
        return replace(self, tile=tile, overlap=min(self.overlap, tile // 2 // self.multiple * self.multiple))

    def padded(self, length: int) -> int:
        """Side that the networks get for a tile's side of this length."""
        return self.tile if self.one_size else -(-length // self.multiple) * self.multiple

    def padded_tile(self, tile: Tile) -> tuple[int, int]:
        """Height and width that the networks get for a tile."""
        return self.padded(len(tile.rows.weights)), self.padded(len(tile.columns.weights))

    def padded_picture(self, tiles: Sequence[Tile]) -> tuple[int, int]:
        """Height and width of a picture that has all of its tiles' padding; only the last ones reach beyond it."""
        height, width = self.padded_tile(tiles[-1])
        return tiles[-1].rows.start + height, tiles[-1].columns.start + width

    def tiles(self, height: int, width: int) -> list[Tile]:
        """Cut a picture, row by row."""
        cut = plan_tiles(height, width, self.tile, self.overlap, self.multiple, one_size=self.one_size)
        return list(cut)


def plan_spans(length: int, tile: int, overlap: int, multiple: int, *, one_size: bool = False) -> list[Span]:
    """Cover ``length`` pixels by as few spans as ``tile`` allows, evenly spread and no longer than they need be.

    With ``one_size`` they are as long as the tile, wherever the picture is.

    All are of one length up to rounding and start at multiples of ``multiple``, which keeps every tile on the same 8x8
    grid and the same phase of the network's own down-sampling as the whole picture.

    Raises:
        ValueError: the overlap leaves no way forward, or the tile is not a multiple.
    """
    if tile % multiple or tile - overlap < multiple:
        raise ValueError(f"tile {tile} must be a multiple of {multiple} and exceed overlap {overlap} by that much")
    if length <= tile:
        return [Span(0, length, np.ones(length, np.float32))]
    # A start is rounded down to the multiple, so the stride must leave room for that.
    stride = (tile - overlap) // multiple * multiple
    count = -(-(length - tile) // stride) + 1
    shared = (count - 1) * overlap
    side = tile if one_size else min(tile, -(-(length + shared) // (count * multiple)) * multiple)
    even = (length - side) / (count - 1)
    starts = [int(i * even) // multiple * multiple for i in range(count)]
    starts[-1] = -(-(length - side) // multiple) * multiple
    stops = [min(start + side, length) for start in starts]
    raw = [_ramped(starts, stops, i) for i in range(count)]
    total = np.zeros(length, np.float32)
    for start, stop, weights in zip(starts, stops, raw, strict=True):
        total[start:stop] += weights
    return [Span(a, b, w / total[a:b]) for a, b, w in zip(starts, stops, raw, strict=True)]


def plan_tiles(
    height: int, width: int, tile: int, overlap: int, multiple: int, *, one_size: bool = False
) -> Iterator[Tile]:
    """All tiles of a picture, row by row."""
    columns = plan_spans(width, tile, overlap, multiple, one_size=one_size)
    for row in plan_spans(height, tile, overlap, multiple, one_size=one_size):
        for column in columns:
            yield Tile(row, column)


def _ramped(starts: list[int], stops: list[int], index: int) -> NDArray[np.float32]:
    """Weights of one span before normalisation: a raised cosine over each shared stretch, one in between.

    Cosine rather than linear, so that a tile's outermost pixels, which see the least context, count least.
    """
    start, stop = starts[index], stops[index]
    weights = np.ones(stop - start, np.float32)
    if index > 0 and (shared := stops[index - 1] - start) > 0:
        weights[:shared] *= _ramp(shared)
    if index + 1 < len(starts) and (shared := stop - starts[index + 1]) > 0:
        weights[-shared:] *= _ramp(shared)[::-1]
    return weights


def _ramp(length: int) -> NDArray[np.float32]:
    """From 0 to 1. The outermost quarter stays at 0: those pixels are there as the others' surroundings only."""
    margin = length // 4
    middle = (np.arange(length - 2 * margin, dtype=np.float32) + 0.5) / (length - 2 * margin)
    return np.pad((0.5 - 0.5 * np.cos(np.pi * middle)).astype(np.float32), margin, constant_values=((0, 1),))
