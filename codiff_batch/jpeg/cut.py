"""A rectangle of a photo, restored by itself exactly as it would be within the whole."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from codiff_batch.jpeg.photo import JpegPhoto


@dataclass(frozen=True)
class Cut(JpegPhoto):
    """Whole MCUs with the photo's own coefficients and pixels, so that the constraint holds as it does in full."""

    blocks: tuple[NDArray[np.int16], ...] = ()
    levels: NDArray[np.uint8] | None = None

    def coefficients(self) -> tuple[NDArray[np.int16], ...]:
        """As for a photo, but of the rectangle alone."""
        return self.blocks

    def pixels(self) -> NDArray[np.uint8]:
        """As for a photo, but of the rectangle alone."""
        assert self.levels is not None
        return self.levels


def cut_out(
    photo: JpegPhoto, blocks: tuple[NDArray[np.int16], ...], pixels: NDArray[np.uint8], window: tuple[slice, slice]
) -> Cut:
    """Cut a rectangle out of a photo.

    Args:
        photo: the whole.
        blocks: its coefficients; empty if they cannot be read or are not needed.
        pixels: its decoded pixels.
        window: rows and columns; they start on the grid of MCUs and end there or at the photo's edge.
    """
    largest_h, largest_v = photo.header.max_sampling
    rows, columns = window
    parts = []
    for component, plane in zip(photo.header.components, blocks, strict=False):
        high, wide = 8 * largest_v // component.v, 8 * largest_h // component.h
        part = plane[rows.start // high : -(-rows.stop // high), columns.start // wide : -(-columns.stop // wide)]
        parts.append(part.copy())
    header = replace(photo.header, height=rows.stop - rows.start, width=columns.stop - columns.start)
    levels = np.ascontiguousarray(pixels[window])
    return Cut(photo.path, photo.data, photo.structure, header, tuple(parts), levels)
