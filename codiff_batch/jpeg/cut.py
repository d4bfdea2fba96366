"""A rectangle of a photo, whose quantization cells are those that the photo has there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from codiff_batch.errors import DamagedJpeg
from codiff_batch.jpeg.photo import JpegPhoto

Blocks = tuple[NDArray[np.int16], ...]
"""Quantized DCT coefficients, one array (rows, columns, 8, 8) per component."""


@dataclass(frozen=True)
class Cut(JpegPhoto):
    """A rectangle of whole MCUs with its own coefficients; nothing is coded again, and its pixels lie elsewhere."""

    blocks: Blocks | None = None
    """None if they cannot be read, or are not what the decoder saw."""

    def coefficients(self) -> Blocks:
        """Quantized DCT coefficients of the rectangle.

        Raises:
            DamagedJpeg: those of the photo are not known.
        """
        if self.blocks is None:
            raise DamagedJpeg("its coefficients cannot be read, or are not what its decoder saw")
        return self.blocks


def cut(photo: JpegPhoto, blocks: Blocks | None, window: tuple[slice, slice]) -> Cut:
    """Cut a rectangle out of a photo.

    Args:
        photo: the whole.
        blocks: its coefficients, as :func:`~codiff_batch.jpeg.constrain.blocks_of` gives them.
        window: rows and columns; they start on the grid of MCUs and end there or at the photo's edge.
    """
    largest_h, largest_v = photo.header.max_sampling
    rows, columns = window
    header = replace(photo.header, height=rows.stop - rows.start, width=columns.stop - columns.start)
    parts = []
    for component, plane in zip(photo.header.components, blocks or (), strict=blocks is not None):
        high, wide = 8 * largest_v // component.v, 8 * largest_h // component.h
        part = plane[rows.start // high : -(-rows.stop // high), columns.start // wide : -(-columns.stop // wide)]
        parts.append(part.copy())  # A view would keep the whole photo's.
    return Cut(photo.path, photo.data, photo.structure, header, None if blocks is None else tuple(parts))
