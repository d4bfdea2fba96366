"""What the pixels tell about a compression before the last one.

Quantization leaves a comb: the DCT coefficients of a photo that was compressed cluster near multiples of that
compression's steps, also after it was saved again with finer ones, or cropped, if one looks at the old grid (Popescu
and Farid 2004; Fan and de Queiroz 2003). Where the picture was made smaller afterwards the grid lies at another period,
which shows in the mean of its second differences (Gallagher 2005). A network's low estimate is no such
evidence: it takes pages of text for heavily compressed pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from codiff_batch.jpeg.pillow_pixels import PillowPixels
from codiff_batch.jpeg.quantization import Table, ijg_table

Pixels = NDArray[np.uint8]
Reals = NDArray[np.float32]

_FREQUENCIES = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2), (0, 3), (3, 0))
"""Low ones, vertical first: their coefficients are large enough to span several teeth of the comb."""

_WEIGHTS = (3 ** np.arange(len(_FREQUENCIES)) * 7919 % 1_000_003).astype(np.float64)

_NOT_COUNTED = 64
"""In place of a block's grid, 0..63."""

_LARGEST = 1024
"""No low coefficient of 8-bit samples is larger: eight times 128, at frequency (0, 0) of a black block."""

_CANDIDATES = range(10, 61)
"""Quality factors of an earlier compression that are searched for."""

_COARSER = 1.4
"""A comb can be seen only if its teeth are further apart than the steps of the last compression, which make one too, on
their own grid and partly on its neighbours."""

SURE, CLEAR = 12.0, 0.12
"""Significance, in standard deviations, and height of a comb, 0 to 1, from which on it counts."""
CLEAR_BY_COARSE_STEPS = 0.3
"""The height on the file's own grid if the file's own steps are coarse and make a comb too."""
COARSE_BELOW = 88
"""The header's quality factor below which that is the case."""

FEWEST_BLOCKS = 40
"""Distinct blocks with some texture that are needed for any evidence."""

NEAR, DRAWN = 0.12, 0.4
"""Levels within this share of their standard deviation count as one; and the share of one level in drawings."""

PERIODS = np.concatenate((np.arange(4.4, 5.25, 0.02), np.arange(5.42, 7.7, 0.02)))
"""Pixels between grid lines after the picture was downscaled by 0.55 to 0.96. Four pixels and two thirds of eight are
left out: they are harmonics of the file's own grid."""
REGULAR, IN_ALL_HARMONICS = 7.0, 4.5
"""Power at such a period, relative to its surroundings, that counts as evidence: the mean over its harmonics, and the
minimum for each of them. A picture that was merely enlarged usually shows only some of them."""
_LARGEST_SIDE = 1024
_SPECTRUM = 8192


@dataclass(frozen=True)
class Earlier:
    """A compression before the last one."""

    qf: float | None
    """Quality factor 10..60 on the IJG's scale; None where it cannot be read."""
    shift: tuple[int, int] = (0, 0)
    """Rows and columns by which its grid is shifted against the file's, 0..7 each."""
    period: float = 8
    """Pixels between the lines of its grid; less than 8 if the picture was downscaled since."""

    @property
    def was_resized(self) -> bool:
        """Return True if the picture was downscaled after that compression."""
        return self.period != 8


@dataclass(frozen=True)
class History:
    """What the pixels tell."""

    blocks: int
    """Distinct 8x8 blocks with some texture among those looked at: the evidence there is."""
    is_drawn: bool
    """Whether much of what was looked at has one even level, as in text, charts and screens, not photos."""
    earlier: Earlier | None

    @property
    def tells_enough(self) -> bool:
        """Return True if the pixels are enough evidence to judge by."""
        return self.blocks >= FEWEST_BLOCKS and not self.is_drawn


def look_back(crops: Sequence[Pixels], pixels: Pixels | PillowPixels, tables: Sequence[Table] | None) -> History:
    """Look for an earlier compression.

    Args:
        crops: textured parts of the picture, (h, w, 3) or (h, w), whose corners lie on the file's 8x8 grid.
        pixels: the whole picture, as stored.
        tables: the file's quantization tables in natural order, luma first; None where the picture is not a JPEG.
    """
    planes = [_luma(crop) for crop in crops if min(crop.shape[:2]) >= 16]
    blocks = _distinct_blocks(planes)
    if blocks < FEWEST_BLOCKS:
        return History(blocks, is_drawn=False, earlier=None)
    is_drawn = _share_of_one_level(planes) > DRAWN
    earlier = _comb(planes, tables)
    if earlier is None and not is_drawn:
        earlier = _other_period(_luma(_middle(pixels)))
    return History(blocks, is_drawn, earlier)


def _share_of_one_level(planes: Sequence[Reals]) -> float:
    """Share of samples near the commonest level, by the measure of their spread: 0.1 to 0.2 for photos."""
    levels = np.concatenate([plane.ravel() for plane in planes])
    histogram = np.bincount(np.rint(levels).astype(np.int64) + 128)
    near = max(1, round(NEAR * float(levels.std())))
    return float(np.convolve(histogram, np.ones(2 * near + 1)).max() / levels.size)


def _comb(planes: Sequence[Reals], tables: Sequence[Table] | None) -> Earlier | None:
    """Find the quality factor and the grid with the clearest comb, if there is one."""
    sums, counts = _comb_sums(planes)
    clear = np.full(64, CLEAR)
    if tables is not None and not _is_fine(tables[0]):
        clear[0] = CLEAR_BY_COARSE_STEPS
    best: tuple[float, Earlier] | None = None
    for qf in _CANDIDATES:
        steps = _low(_table(qf))
        at = np.flatnonzero(_coarser(steps, tables))
        column = np.searchsorted(_steps(), steps[at])
        sum_, count = sums[:, at, column].sum(axis=1), np.maximum(counts[:, at, column].sum(axis=1), 1)
        significance, height = sum_ / np.sqrt(count / 2), sum_ / count
        significance[height <= clear] = 0
        grid = int(significance.argmax())
        if significance[grid] > max(SURE, best[0] if best else 0):
            best = float(significance[grid]), Earlier(float(qf), divmod(grid, 8))
    return best[1] if best else None


def _is_fine(table: Table) -> bool:
    return bool(_low(table).mean() <= _low(_table(COARSE_BELOW)).mean())


def _low(table: Table) -> NDArray[np.int64]:
    return np.array([table[at] for at in _FREQUENCIES], np.int64)


def _coarser(steps: NDArray[np.int64], tables: Sequence[Table] | None) -> NDArray[np.bool_]:
    if tables is None:
        return np.ones(len(steps), np.bool_)
    return np.asarray(steps > _COARSER * _low(tables[0]))


def _comb_sums(planes: Sequence[Reals]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far coefficients stand at multiples of each step, on each of 64 grids.

    Returns:
        Sums of ``cos(2 pi c / step)`` over the coefficients that are not in the step's middle cell, and their number;
        each (64 grids, frequencies, steps). Without a comb the first is zero but for chance.
    """
    grids, blocks = _blocks_of_all_grids(planes)
    sums = np.empty((64, len(_FREQUENCIES), len(_steps())))
    totals = np.empty_like(sums)
    for number, sizes in enumerate(blocks):
        largest = int(sizes.max())  # Much less than could be, except for the first.
        # Blocks that are not counted have a column of their own, which is cheaper than taking them out.
        columns = _NOT_COUNTED + 1
        places = (columns * sizes + grids).astype(np.intp)
        counts = (
            np.bincount(places, minlength=columns * (largest + 1)).reshape(-1, columns)[:, :64].T.astype(np.float64)
        )
        cosines, outside = (of_size[: largest + 1] for of_size in _teeth())
        sums[:, number], totals[:, number] = counts @ cosines, counts @ outside
    # The mean brightness of a dark picture may vary by less than one step, and then be at a multiple by chance.
    flat = float(blocks[0, grids != _NOT_COUNTED].std(dtype=np.float64)) < _steps()
    sums[:, 0, flat] = totals[:, 0, flat] = 0
    return sums, totals


@cache
def _steps() -> NDArray[np.int64]:
    """The steps that the candidates' tables have at low frequencies, in order."""
    return np.unique([_low(_table(qf)) for qf in _CANDIDATES])


@cache
def _teeth() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    size = np.arange(_LARGEST + 1)[:, None]
    outside = (size > _steps() / 2).astype(np.float64)
    return np.cos(2 * np.pi * size / _steps()) * outside, outside


def _blocks_of_all_grids(planes: Sequence[Reals]) -> tuple[Reals, Reals]:
    """The blocks at *every* position of the planes (H, W); of equal blocks on one grid only the first counts.

    Drawings repeat their blocks, and the same number a thousand times is not a comb.

    Returns:
        Each block's grid, 0..63, or ``_NOT_COUNTED``, and its low coefficients' sizes, rounded: (blocks,) and
        (frequencies, blocks), whole numbers.
    """
    shapes = [tuple(side - 7 for side in plane.shape) for plane in planes]
    ends = np.cumsum([height * width for height, width in shapes])
    grid, size = np.empty(ends[-1], np.int64), np.empty((len(_FREQUENCIES), ends[-1]), np.float32)
    for plane, shape, end in zip(planes, shapes, ends, strict=True):
        here = slice(end - math.prod(shape), end)
        down, across = (_at_every_position(side) for side in plane.shape)
        halves = [rows @ plane for rows in down]
        for number, (u, v) in enumerate(_FREQUENCIES):
            np.matmul(halves[u], across[v].T, out=size[number, here].reshape(shape))
        rows, columns = np.indices(shape, sparse=True)
        grid[here] = (rows % 8 * 8 + columns % 8).ravel()
    np.rint(np.abs(size, out=size), out=size)
    # A weighted sum distinguishes tuples well enough, and sorts much faster than the tuples; with its place in the low
    # bits, it need not be sorted indirectly.
    place_bits = len(grid).bit_length()
    keys = (grid + 64 * (_WEIGHTS @ size).astype(np.int64)) << place_bits | np.arange(len(grid))
    keys.sort()
    tuples = keys >> place_bits
    grid[keys[1:][tuples[1:] == tuples[:-1]] & (1 << place_bits) - 1] = _NOT_COUNTED
    return grid.astype(np.float32), size


@lru_cache(maxsize=8)
def _at_every_position(side: int) -> Reals:
    """The DCT's low rows at every position of a line of samples, as matrices: (4 frequencies, side - 7, side)."""
    matrices = np.zeros((len(_basis()), side - 7, side), np.float32)
    for position in range(side - 7):
        matrices[:, position, position : position + 8] = _basis()
    return matrices


@cache
def _basis() -> Reals:
    rows = [
        [math.cos((2 * x + 1) * u * math.pi / 16) * (math.sqrt(1 / 8) if u == 0 else 0.5) for x in range(8)]
        for u in range(4)
    ]
    return np.array(rows, np.float32)


@cache
def _table(qf: int) -> Table:
    return ijg_table(qf, chroma=False)


def _distinct_blocks(planes: Sequence[Reals]) -> int:
    """Blocks on the file's grid that are not flat, repeated ones counted once."""
    seen = set()
    for plane in planes:
        height, width = (side // 8 for side in plane.shape)
        blocks = np.rint(plane[: height * 8, : width * 8]).astype(np.int16).reshape(height, 8, width, 8).swapaxes(1, 2)
        textured = blocks[blocks.std(axis=(2, 3)) > 2]
        seen |= {block.tobytes() for block in textured - textured[:, :1, :1]}
    return len(seen)


def _other_period(plane: Reals) -> Earlier | None:
    """Find a grid whose lines are not eight pixels apart, by the spectrum of the mean second differences."""
    if min(plane.shape) < 128:
        return None
    power = _spectrum(plane, 0) + _spectrum(plane, 1)
    best, found = REGULAR, None
    for period in PERIODS:
        places = [round(_SPECTRUM * k / period) for k in range(1, int(period // 2) + 1)]
        harmonics = [float(power[place - 2 : place + 3].max()) for place in places]
        if min(harmonics) > IN_ALL_HARMONICS and (strength := sum(harmonics) / len(harmonics)) > best:
            best, found = strength, Earlier(None, period=float(period))
    return found


def _spectrum(plane: Reals, axis: int) -> NDArray[np.float64]:
    """Power of the mean second differences along one axis, relative to its surroundings, without the own grid."""
    differences = np.minimum(np.abs(np.diff(plane, 2, axis=axis)), 12).mean(axis=1 - axis, dtype=np.float64)
    detail = differences - _smooth(differences, 8)
    for phase in range(8):
        detail[phase::8] -= detail[phase::8].mean()
    detail = np.clip(detail, -3 * detail.std(), 3 * detail.std()) * np.hanning(len(detail))
    power = np.abs(np.fft.rfft(detail, _SPECTRUM)) ** 2
    return np.asarray(power / (_smooth(power, 200) + 1e-9))


def _smooth(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Each value's mean with so many before and behind it; the ends are repeated."""
    around = 2 * reach + 1
    return np.convolve(np.pad(values, reach, mode="edge"), np.full(around, 1 / around), "valid")


def _middle(pixels: Pixels | PillowPixels) -> Pixels:
    top, left = (max(0, side - _LARGEST_SIDE) // 16 * 8 for side in pixels.shape[:2])
    return pixels[top : top + _LARGEST_SIDE, left : left + _LARGEST_SIDE]


def _luma(pixels: Pixels) -> Reals:
    """Level-shifted luma (JFIF), float32."""
    if pixels.ndim == 2:
        return pixels.astype(np.float32) - 128
    return np.asarray(pixels @ np.array([0.299, 0.587, 0.114], np.float32) - 128)
