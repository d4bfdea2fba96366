"""A decoded picture in Pillow's memory, of which only what is asked for is copied.

Pillow keeps a colour pixel in four bytes, so numpy cannot share its memory. Copying all of 12 megapixels takes a
quarter as long as decoding them; to judge a photo, a fifth of its pixels is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

STRIP = 32
"""Rows that are copied at a time. Pillow would copy all of a picture twice, into new memory, which the system has to
clear first: of 12 megapixels that takes longer than decoding them. So few that a search often ends after one strip."""


class PillowPixels:
    """Pixels (H, W, 3) RGB or (H, W) gray, uint8. Slices and ``numpy.asarray`` give arrays.

    Safe in several threads; those that ask for all pixels at once may copy them once each.

    Args:
        image: decoded, of mode L or RGB. It is let go of once all of it has been copied.
    """

    def __init__(self, image: Image) -> None:
        bands = len(image.getbands())
        self.shape: tuple[int, ...] = (image.height, image.width) if bands == 1 else (image.height, image.width, bands)
        self._image: Image | None = image
        self._copied = np.empty(0, np.uint8)

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.uint8]:
        """Rows and columns, without steps."""
        image, (rows, columns) = self._image, window
        if image is None:
            return self._copied[window]
        (top, bottom, _), (left, right, _) = rows.indices(self.shape[0]), columns.indices(self.shape[1])
        if _is_over_limit((bottom - top) * (right - left)):
            return np.asarray(self)[window]
        return np.asarray(image.crop((left, top, right, bottom)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.uint8]:
        """All pixels; once they have been copied, the same array at each call."""
        if (image := self._image) is not None:
            self._copied = self._copy(image)
            self._image = None
        return np.array(self._copied, dtype, copy=copy)

    def _copy(self, image: Image) -> NDArray[np.uint8]:
        height, width = self.shape[:2]
        if _is_over_limit(width * STRIP):
            return np.asarray(image)
        pixels = np.empty(self.shape, np.uint8)
        for top in range(0, height, STRIP):
            bottom = min(top + STRIP, height)
            pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
        return pixels


def _is_over_limit(pixels: int) -> bool:
    """Return True if Pillow's limit for somebody's own pictures keeps it from cutting so many out."""
    from PIL import Image

    return Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS
