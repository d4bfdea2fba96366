"""Projection onto the source's quantization cells.

A JPEG records each DCT coefficient as an integer k, so all that is known of the true coefficient is that it
lay within half a quantization step q of k q. A picture whose coefficients all lie in their cells is one that
the source's encoder would have turned into the very same file; the projection moves a restoration to
the nearest such picture. It bounds what a network can invent.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codiff_batch.errors import DamagedJpeg
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

COMPARED = 256
"""About this many blocks are compared with the decoder's."""
LARGEST_DISAGREEMENT = 2.0
"""Levels, mean over a block; rounding makes about a third of one."""

BAND_ROWS = 256
"""Rows worked on at a time, rounded to whole MCUs; bounds the memory for float copies."""

# JFIF 1.02: level-shifted YCbCr from RGB, and back.
_TO_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], np.float32
)
_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136286, -0.714136286], [1, 1.772, 0]], np.float32)


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


def project_to_cells(levels: Levels, photo: JpegPhoto, pixels: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Move a restored picture to the nearest one that the source's encoder would have coded alike.

    The encoder modelled is libjpeg with box-filtered chroma, as cameras and web sites use it. Blocks at the
    right and bottom edge that reach beyond the picture depend on the encoder's padding and are matched as well as
    possible. Works in bands, so its memory does not grow with the picture's height.

    Args:
        levels: float32 (H, W, 3) or (H, W) in [0, 255], of the photo's size. Used as scratch space.
        photo: the source, for which :func:`can_project` holds.
        pixels: what the decoder made of it; given, some blocks are decoded here too and compared.

    Returns:
        uint8 of the same shape. Compressed again with the source's tables and sampling it gives the source's
        coefficients back: up to QF 80 more than 99.9 % of them, the rest off by one for the most part. They lie in
        blocks where colours are clipped at 0 or 255, or at the picture's edge. Above QF 90 steps are no wider than the
        noise of rounding to 8 bits, which moves more of them by one.

    Raises:
        DamagedJpeg: the photo's coefficients cannot be read, or do not match the decoder's pixels.
    """
    coefficients = photo.coefficients()
    if pixels is not None and not _agree(coefficients[0], photo, pixels):
        raise DamagedJpeg("the decoder's pixels do not match its header and coefficients")
    height = levels.shape[0]
    _, largest_v = photo.header.max_sampling
    rows = max(1, BAND_ROWS // (8 * largest_v)) * 8 * largest_v
    result = np.empty(levels.shape, np.uint8)
    for top in range(0, height, rows):
        band = levels[top : top + rows]
        planes = [_Cells(photo, index, coefficients[index], top, len(band)) for index in range(len(coefficients))]
        result[top : top + rows] = _project_band(band, planes, photo.header.colour)
    return result


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
            if not (inside if shown.ndim == 2 else inside.all(axis=2)).all():
                continue
            ours = _DCT.T @ (coefficients[row, column] * photo.header.tables[0].astype(np.float32)) @ _DCT
            theirs = _split(shown, photo.header.colour, encoder_rounds=False)[0]
            worst = max(worst, float(np.abs(ours - theirs).mean()))
    return worst < LARGEST_DISAGREEMENT


def _project_band(band: Levels, cells: list[_Cells], colour: str) -> NDArray[np.uint8]:
    """Project a band of whole MCU rows; ``band`` is changed."""
    rounded = band
    for attempt in range(PASSES):
        planes = _split(rounded, colour, encoder_rounds=attempt > 0)
        moves = [cell.move(plane, rounded=attempt > 0) for cell, plane in zip(cells, planes, strict=True)]
        if attempt > 0 and all(move is None for move in moves):
            break
        _add(band, moves, colour)
        rounded = np.rint(band).clip(0, 255)
    return rounded.astype(np.uint8)


def _split(band: Levels, colour: str, *, encoder_rounds: bool) -> list[Levels]:
    """Level-shifted component planes (H, W) at full size, rounded to integers as an encoder's input if asked."""
    if colour == "gray":
        return [band - 128]
    if colour == "rgb":
        return [band[..., i] - 128 for i in range(3)]
    planes = [band @ row for row in _TO_YCBCR]
    planes[0] -= 128
    return [np.rint(plane) for plane in planes] if encoder_rounds else planes


def _add(band: Levels, moves: list[Levels | None], colour: str) -> None:
    """Add changes of component planes to a band, in place."""
    for index, move in enumerate(moves):
        if move is None:
            continue
        if colour == "gray":
            band += move
        elif colour == "rgb":
            band[..., index] += move
        else:
            for channel in range(3):
                if weight := _TO_RGB[channel, index]:
                    band[..., channel] += weight * move


class _Cells:
    """The quantization cells of one component in one band of whole MCU rows."""

    def __init__(self, photo: JpegPhoto, index: int, coefficients: NDArray[np.int16], top: int, rows: int) -> None:
        component = photo.header.components[index]
        largest_h, largest_v = photo.header.max_sampling
        self._fold_h, self._fold_v = largest_h // component.h, largest_v // component.v
        self._rows, self._columns = rows, photo.header.width
        first = top // (8 * self._fold_v)
        count = -(-rows // (8 * self._fold_v))
        self._step = photo.header.tables[index].astype(np.float32)
        self._centre = coefficients[first : first + count] * self._step
        self._fine = self._step < FINE_STEP
        margin = np.where(self._fine, 0, np.minimum(MARGIN, LARGEST_MARGIN * self._step / 2))
        self._reach = np.broadcast_to(self._step / 2 - margin, self._centre.shape).copy()

    def move(self, plane: Levels, *, rounded: bool) -> Levels | None:
        """The change (H, W) of a full-size plane that brings its coefficients into their cells.

        None where none is outside. Coefficients that are outside again, because the plane was rounded, are pulled
        further in than before, except where steps are too fine for that.
        """
        deviation = self._transform(plane) - self._centre
        excess = deviation - np.clip(deviation, -self._reach, self._reach)
        beyond = np.abs(deviation) > self._step / 2
        if rounded:
            excess *= ~self._fine
            beyond &= ~self._fine
        if not beyond.any():
            return None
        self._reach[beyond] *= 0.5
        change = self._without_padding(-self._inverse(excess))
        full = change.repeat(self._fold_v, axis=0).repeat(self._fold_h, axis=1)
        return full[: self._rows, : self._columns]

    def _without_padding(self, change: Levels) -> Levels:
        """Apply the changes of the padding to the samples that it repeats, as their mean.

        That is the orthogonal projection onto pictures that can be padded so, and alternating the two converges.
        """
        rows, columns = -(-self._rows // self._fold_v), -(-self._columns // self._fold_h)
        change[rows - 1] = change[rows - 1 :].mean(axis=0)
        change[:, columns - 1] = change[:, columns - 1 :].mean(axis=1)
        return change

    def _transform(self, plane: Levels) -> Levels:
        """DCT coefficients (rows, columns, 8, 8) of a full-size plane, as the encoder computes them."""
        rows, columns = self._centre.shape[:2]
        small = _downsample(plane, self._fold_v, self._fold_h, rows * 8, columns * 8)
        blocks = small.reshape(rows, 8, columns, 8).swapaxes(1, 2)
        return np.asarray(_DCT @ blocks @ _DCT.T, np.float32)

    def _inverse(self, coefficients: Levels) -> Levels:
        rows, columns = coefficients.shape[:2]
        blocks = _DCT.T @ coefficients @ _DCT
        return np.asarray(blocks.swapaxes(1, 2).reshape(rows * 8, columns * 8), np.float32)


def _downsample(plane: Levels, fold_v: int, fold_h: int, height: int, width: int) -> Levels:
    """Box-filter a plane and pad it to whole blocks in the order of libjpeg (``jcsample.c``, ``jcprepct.c``).

    Columns are repeated before the filter; rows only to complete a group, then after it.
    """
    pad_v, pad_h = -plane.shape[0] % fold_v, width * fold_h - plane.shape[1]
    plane = np.pad(plane, ((0, pad_v), (0, pad_h)), mode="edge")
    if fold_v * fold_h > 1:
        plane = plane.reshape(plane.shape[0] // fold_v, fold_v, width, fold_h).mean(axis=(1, 3))
    return np.pad(plane, ((0, height - plane.shape[0]), (0, 0)), mode="edge")
