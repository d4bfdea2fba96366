"""Projection onto the source's quantization cells.

A JPEG records each DCT coefficient as an integer k, so all that is known of the true coefficient is that it
lay within half a quantization step q of k q. A picture whose coefficients all lie in their cells is one that
the source's encoder would have turned into the very same file; the projection moves a restoration to
the nearest such picture. It bounds what a network can invent.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codiff_batch.errors import DamagedJpeg
from codiff_batch.jpeg.arrays import NUMPY, Arrays
from codiff_batch.jpeg.coefficients import has_readable_coefficients

if TYPE_CHECKING:
    from codiff_batch.jpeg.photo import JpegPhoto

Levels = NDArray[np.float32]

PASSES = 4
"""Projections, each followed by rounding to 8 bits; a coefficient that rounding pushed out is pulled further in."""

MARGIN = 1.0
"""Levels inside its cell that a coefficient is moved to, so that rounding does not push it out again."""

LARGEST_MARGIN = 0.45
"""Of half a step: where steps are small, the margin must leave some of the cell."""

FINE_STEP = 3
"""Steps below this are no wider than the noise of rounding to 8 bits; chasing it would do more harm than good."""

SAFELY = np.float32(0.1)
"""Levels inside its cell that a coefficient must be to be done with: libjpeg's integer arithmetic is about as exact."""

COMPARED = 256
"""About this many blocks are compared with the decoder's."""
LARGEST_DISAGREEMENT = 2.0
"""Levels, mean over a block; rounding makes about a third of one."""

# JFIF 1.02: level-shifted YCbCr from RGB, and back.
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_TO_RGB = ((1, 0, 1.402), (1, -0.344136286, -0.714136286), (1, 1.772, 0))


def _dct_matrix() -> Levels:
    matrix = [
        [math.cos((2 * x + 1) * u * math.pi / 16) * (math.sqrt(1 / 8) if u == 0 else 0.5) for x in range(8)]
        for u in range(8)
    ]
    return np.array(matrix, np.float32)


_DCT = _dct_matrix()


def can_project(photo: JpegPhoto) -> bool:
    """Return True if the source's cells can be modelled: coefficients readable, and sampling by whole numbers."""
    largest_h, largest_v = photo.header.max_sampling
    whole = all(largest_h % c.h == 0 and largest_v % c.v == 0 for c in photo.header.components)
    return whole and has_readable_coefficients(photo)


def blocks_of(photo: JpegPhoto, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.int16], ...] | None:
    """Return a photo's coefficients, or None where :func:`project_to_cells` would refuse it.

    Args:
        photo: the source.
        pixels: what the decoder made of it.
    """
    if can_project(photo):
        with suppress(DamagedJpeg):
            return _read(photo, pixels)
    return None


def project_to_cells(
    levels: Any, photo: JpegPhoto, pixels: NDArray[np.uint8] | None = None, arrays: Arrays = NUMPY
) -> Any:
    """Move a restored picture to the nearest one that the source's encoder would have coded alike.

    The encoder modelled is libjpeg with box-filtered chroma, as cameras and web sites use it. Blocks at the
    right and bottom edge that reach beyond the picture depend on the encoder's padding and are matched as well as
    possible. Works in bands, so its memory does not grow with the picture's height.

    Args:
        levels: float32 (H, W, 3) or (H, W) in [0, 255], of the photo's size; may be overwritten.
        photo: the source, for which :func:`can_project` holds.
        pixels: what the decoder made of it; given, some blocks are decoded here too and compared.
        arrays: what the levels are arrays of.

    Returns:
        uint8 of the same shape and kind. Compressed again with the source's tables and sampling it gives the source's
        coefficients back: up to QF 80 more than 99.9 % of them, the rest off by one for the most part. They lie in
        blocks where colours are clipped at 0 or 255, or at the picture's edge. Above QF 90 steps are no wider than the
        noise of rounding to 8 bits, which moves more of them by one.

    Raises:
        DamagedJpeg: the photo's coefficients cannot be read, or do not match the decoder's pixels.
    """
    coefficients = _read(photo, pixels)
    result = arrays.empty(levels.shape)
    sources, results = levels.reshape(*levels.shape[:2], -1), result.reshape(*result.shape[:2], -1)
    kinds: dict[tuple[int, int], _Unit] = {}
    largest_h, largest_v = photo.header.max_sampling
    band = max(1, arrays.pixels_at_a_time // (levels.shape[1] * 8 * largest_v))
    for rows in _runs(levels.shape[0], 8 * largest_v, band):
        for columns in _runs(levels.shape[1], 8 * largest_h, levels.shape[1]):
            size = rows.size, columns.size
            unit = kinds[size] = kinds.get(size) or _Unit(photo, *size, arrays)
            cells = [unit.cells(index, plane, rows, columns) for index, plane in enumerate(coefficients)]
            place = rows.place, columns.place
            settled = _settle(unit.gather(sources[place]), unit, cells, photo.header.colour)
            unit.scatter(settled, results[place])
    return result


def _read(photo: JpegPhoto, pixels: NDArray[np.uint8] | None) -> tuple[NDArray[np.int16], ...]:
    """A photo's coefficients, compared with what the decoder saw where that is given."""
    coefficients = photo.coefficients()
    if pixels is not None and not _agree(coefficients[0], photo, pixels):
        raise DamagedJpeg("the decoder's pixels do not match its header and coefficients")
    return coefficients


class _Run(NamedTuple):
    """MCUs in a row, in one direction, that have the same size within the picture."""

    first: int
    """Which MCU is the first."""
    place: slice
    """Their pixels."""
    size: int
    """Pixels of one."""


def _runs(length: int, side: int, most: int) -> Iterator[_Run]:
    """Cut a side of a picture into runs of at most so many MCUs; the last MCU may be cut off by the border."""
    whole = length // side
    for first in range(0, whole, most):
        yield _Run(first, slice(first * side, min(first + most, whole) * side), side)
    if length % side:
        yield _Run(whole, slice(whole * side, length), length % side)


def _agree(coefficients: NDArray[np.int16], photo: JpegPhoto, pixels: NDArray[np.uint8]) -> bool:
    """Compare our own decode of some blocks of the first component with the decoder's pixels.

    The decoder may read the header differently: then tables or colours are not what we think, and a projection would do
    harm. Samples at the ends of the scale, where colours are clipped, do not count.
    """
    first = photo.header.components[0]
    if (first.h, first.v) != photo.header.max_sampling:
        return True
    rows, columns = (side // 8 for side in pixels.shape[:2])
    step = max(1, math.isqrt(rows * columns // COMPARED))
    worst = 0.0
    for row in range(0, rows, step):
        for column in range(0, columns, step):
            shown = pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].astype(np.float32)
            inside = (shown > 1) & (shown < 254)
            if not inside.all():
                continue
            ours = _DCT.T @ (coefficients[row, column] * photo.header.tables[0].astype(np.float32)) @ _DCT
            planes = shown.reshape(64, -1).T.copy()
            theirs = _split(planes, photo.header.colour, encoder_rounds=False)[0].reshape(8, 8)
            worst = max(worst, float(np.abs(ours - theirs).mean()))
    return worst < LARGEST_DISAGREEMENT


def _settle(planes: Any, unit: _Unit, cells: list[Any], colour: str) -> Any:
    """Project MCUs of one kind; those that are inside their cells after rounding are done with.

    Args:
        planes: (channels, MCUs, samples); overwritten.
        unit: their kind.
        cells: of each component the middles of its cells, (MCUs, coefficients).
        colour: how components are made of channels.

    Returns:
        Whole numbers, as floats of the same shape.
    """
    result, reaches, before = planes, unit.reaches, list[Any]()
    going = unit.arrays.numbers(planes.shape[1])
    rounded = planes
    for attempt in range(PASSES):
        shown = _split(rounded, colour, encoder_rounds=attempt > 0)
        deviations = [unit.transform(index, plane) for index, plane in enumerate(shown)]
        for deviation, cell in zip(deviations, cells, strict=True):
            deviation -= cell
        if attempt > 0:
            outside = [(abs(d) > far).any(1) for d, far in zip(deviations, unit.outside, strict=True)]
            left = reduce(operator.or_, outside)
            if not left.all():
                planes = planes[:, left]  # A copy, so the result may lie where all of them began.
                result[:, going[~left]] = rounded[:, ~left]
                if not left.any():
                    return result
                going = going[left]
                cells, before, deviations = ([each[left] for each in some] for some in (cells, before, deviations))
                reaches = reaches if attempt == 1 else [reach[left] for reach in reaches]
            # What is outside again, because the picture was rounded, is pulled further in than before.
            beyond = [abs(each) > far for each, far in zip(before, unit.halves, strict=True)]
            reaches = [reach - reach * 0.5 * out for reach, out in zip(reaches, beyond, strict=True)]
        for index, (deviation, reach) in enumerate(zip(deviations, reaches, strict=True)):
            excess = deviation - deviation.clip(-reach, reach)
            if attempt > 0 and unit.has_fine[index]:
                excess *= unit.coarse[index]
            _add(planes, unit.inverse(index, excess), index, colour)
        before = deviations
        rounded = planes.round().clip(0, 255)
    result[:, going] = rounded
    return result


def _split(planes: Any, colour: str, *, encoder_rounds: bool) -> Sequence[Any]:
    """Level-shifted components of channels (C, ...), rounded to integers as an encoder's input if asked."""
    if colour in ("gray", "rgb"):
        shifted: Sequence[Any] = planes - 128
        return shifted
    components = []
    for weights in _TO_YCBCR:
        component = planes[0] * weights[0]
        for plane, weight in zip(planes[1:], weights[1:], strict=True):
            component += plane * weight
        components.append(component)
    components[0] -= 128
    return [component.round() for component in components] if encoder_rounds else components


def _add(planes: Any, change: Any, component: int, colour: str) -> None:
    """Take the change of a component from the channels, in place."""
    if colour in ("gray", "rgb"):
        planes[component] -= change
        return
    for channel in range(3):
        weight = _TO_RGB[channel][component]
        if weight:
            planes[channel] -= change if weight == 1 else weight * change


class _Unit:
    """MCUs of one size within the picture, and the linear maps between their samples and their coefficients.

    All that an encoder does to a component, padding included, is linear and acts on rows and columns alike, so for the
    few sizes that there are each is a matrix. Samples lie block by block where the MCU is whole, else row by row.
    """

    def __init__(self, photo: JpegPhoto, height: int, width: int, arrays: Arrays) -> None:
        self.arrays = arrays
        largest_h, largest_v = photo.header.max_sampling
        whole = (height, width) == (8 * largest_v, 8 * largest_h)
        self._size = height, width
        self._blocks = (largest_v, largest_h) if whole else (1, 1)
        self._forth, self._back, self._steps, self._counts, self._per_mcu = [], [], [], [], []
        self.reaches, self.halves, self.outside, self.coarse, self.has_fine = [], [], [], [], []
        for component, table in zip(photo.header.components, photo.header.tables, strict=True):
            fold_v, fold_h = largest_v // component.v, largest_h // component.h
            single = whole and fold_v == fold_h == 1
            counts = -(-height // (8 * fold_v)), -(-width // (8 * fold_h))
            size, blocks = ((8, 8), (1, 1)) if single else (self._size, self._blocks)
            down, across = _direction(size[0], fold_v, early=False), _direction(size[1], fold_h, early=True)
            self._forth.append(arrays.put(_both(down.forth, across.forth, blocks)))
            self._back.append(arrays.put(np.ascontiguousarray(_both(down.back, across.back, blocks).T)))
            self._counts.append(counts)
            self._per_mcu.append((component.v, component.h))
            step = np.tile(table.astype(np.float32).ravel(), counts[0] * counts[1])
            fine = step < FINE_STEP
            margin = np.where(fine, 0, np.minimum(MARGIN, LARGEST_MARGIN * step / 2)).astype(np.float32)
            self._steps.append(arrays.put(step))
            self.halves.append(arrays.put(step / 2))
            self.reaches.append(arrays.put(step / 2 - margin))
            self.outside.append(arrays.put(np.where(fine, np.float32(np.inf), step / 2 - SAFELY)))
            self.has_fine.append(bool(fine.any()))
            self.coarse.append(arrays.put(np.where(fine, np.float32(0), np.float32(1))))

    def gather(self, pixels: Any) -> Any:
        """Samples (channels, MCUs, samples) of pixels (rows, columns, channels)."""
        return self._laid_out(pixels).reshape(pixels.shape[2], -1, math.prod(self._size))

    def scatter(self, planes: Any, pixels: Any) -> None:
        """Write samples where :meth:`gather` takes them from."""
        there = self._laid_out(pixels)
        there[...] = planes.reshape(there.shape)

    def _laid_out(self, pixels: Any) -> Any:
        """A view of the pixels as (channels, MCU rows, MCU columns, blocks down, across, rows, columns)."""
        (height, width), (down, across) = self._size, self._blocks
        rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
        split = pixels.reshape(rows, down, height // down, columns, across, width // across, pixels.shape[2])
        return self.arrays.permuted(split, (6, 0, 3, 1, 4, 2, 5))

    def cells(self, index: int, coefficients: NDArray[np.int16], rows: _Run, columns: _Run) -> Any:
        """Middles of the cells (MCUs, coefficients) of a component."""
        down, across = self._counts[index]
        per_row, per_column = self._per_mcu[index]
        many = [(run.place.stop - run.place.start) // run.size for run in (rows, columns)]
        top, left = rows.first * per_row, columns.first * per_column
        blocks = self.arrays.put(coefficients[top : top + many[0] * down, left : left + many[1] * across])
        blocks = blocks.reshape(many[0], down, many[1], across, 64).swapaxes(1, 2)
        return blocks.reshape(-1, down * across * 64) * self._steps[index]

    def transform(self, index: int, plane: Any) -> Any:
        """DCT coefficients (MCUs, coefficients) of a component (MCUs, samples), as the encoder computes them."""
        forth = self._forth[index]
        return self.arrays.product(plane.reshape(-1, len(forth)), forth).reshape(len(plane), -1)

    def inverse(self, index: int, coefficients: Any) -> Any:
        """The samples (MCUs, samples) of coefficients."""
        back = self._back[index]
        return self.arrays.product(coefficients.reshape(-1, len(back)), back).reshape(len(coefficients), -1)


class _Direction(NamedTuple):
    """What happens along columns, or along rows."""

    forth: Levels
    """Coefficients from samples, (blocks, 8, samples)."""
    back: Levels
    """Samples from coefficients, of the same shape."""


@cache
def _direction(length: int, fold: int, *, early: bool) -> _Direction:
    """Box-filter and pad to whole blocks in the order of libjpeg (``jcsample.c``, ``jcprepct.c``), then the DCT.

    The way back folds what the padding would have to change onto the sample that it repeats, as their mean. That is the
    orthogonal projection onto pictures that can be padded so, and alternating the two converges.

    Args:
        length: samples of the picture.
        fold: how many of them the component has one for.
        early: repeat before the filter, as with columns; else only to complete a group, then after it, as with rows.
    """
    own = -(-length // fold)
    count = -(-own // 8) * 8
    down, up = np.zeros((count, length)), np.zeros((length, count))
    for sample in range(count):
        group = sample if early else min(sample, own - 1)
        for each in range(group * fold, (group + 1) * fold):
            down[sample, min(each, length - 1)] += 1 / fold
        repeats = min(sample, own - 1)
        up[repeats * fold : (repeats + 1) * fold, sample] = 1 / (count - own + 1) if repeats == own - 1 else 1
    blocks = np.kron(np.eye(count // 8), _DCT)
    forth, back = (np.asarray(blocks @ way, np.float32).reshape(-1, 8, length) for way in (down, up.T))
    return _Direction(forth, back)


def _both(down: Levels, across: Levels, blocks: tuple[int, int]) -> Levels:
    """The matrix (samples, coefficients) of two directions, its samples block by block."""
    matrix = np.einsum("auy,bvx->yxabuv", down, across)
    height, width = matrix.shape[:2]
    rows, columns = blocks
    matrix = matrix.reshape(rows, height // rows, columns, width // columns, -1).swapaxes(1, 2)
    return np.asarray(matrix.reshape(height * width, -1), np.float32)
