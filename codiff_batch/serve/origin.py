"""Which JPEG a host's picture comes from, if it is still on that file's grid."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codiff_batch.errors import CodiffError
from codiff_batch.jpeg import JpegPhoto

LARGEST_DIFFERENCE = 6
"""In levels: a host's decoder differs from ours by up to 3, and what was painted by more. No pixel may differ more,
since restoring from the file would undo what was painted."""

BLOCK, BLOCK_DIFFERENCE = 16, 1.0
"""Pixels, and levels on average over so many of them each way in any channel: decoders round up here and down there,
while a picture that was made a little brighter or warmer, even in one spot, differs in one direction."""

MEAN_DIFFERENCE = 0.6
"""In levels: what compressing once more on the same grid changes at most. Off the grid it is 0.8 at QF 98, and several
levels at low QFs."""


def jpeg_behind(pixels: NDArray[np.uint8], file: Path | None = None, settings: bytes | None = None) -> JpegPhoto | None:
    """The JPEG that a picture was decoded from, or one that is as good; None if there is none any more.

    A picture that was cropped, moved or painted on since does not match its file, and that shows in the pixels
    themselves. Without the file, they are compressed once more with the settings that the host remembers, which
    changes almost nothing if the grid still fits.

    Args:
        pixels: uint8 (H, W, 3) or (H, W).
        file: the JPEG that the host says it was loaded from.
        settings: what GIMP remembers of it, the parasite ``jpeg-settings``.

    Returns:
        The photo; its ``path`` is None if it was made from the settings.
    """
    if file is not None:
        with contextlib.suppress(CodiffError):
            photo = JpegPhoto.open(file)
            differences = _differences(pixels, photo)
            if np.abs(differences).max(initial=0) <= LARGEST_DIFFERENCE and _drift(differences) <= BLOCK_DIFFERENCE:
                return photo
    if settings is not None:
        with contextlib.suppress(CodiffError, ValueError, LookupError, OSError, TypeError, OverflowError, struct.error):
            photo = compressed_again(pixels, settings)
            if np.abs(_differences(pixels, photo)).mean() <= MEAN_DIFFERENCE:
                return photo
    return None


def _differences(pixels: NDArray[np.uint8], photo: JpegPhoto) -> NDArray[np.int16]:
    """Level by level, with sign; the largest possible where the pictures differ in shape."""
    decoded = photo.pixels()
    if pixels.shape != decoded.shape:
        return np.full((1, 1), 255, np.int16)
    differences: NDArray[np.int16] = pixels.astype(np.int16) - decoded
    return differences


def _drift(differences: NDArray[np.int16]) -> float:
    """The largest mean of a block of one channel; what is left over at an edge belongs to the last block."""
    sums: NDArray[np.float64] = differences.astype(np.float64)
    sizes = np.ones(())
    for axis, side in enumerate(differences.shape[:2]):
        starts = np.arange(0, max(1, side - BLOCK + 1), BLOCK)
        sums = np.add.reduceat(sums, starts, axis)
        sizes = np.multiply.outer(sizes, np.diff(starts, append=side))
    return float(np.abs(sums / sizes.reshape(*sizes.shape, *[1] * (sums.ndim - 2))).max(initial=0))


def compressed_again(pixels: NDArray[np.uint8], settings: bytes) -> JpegPhoto:
    """The JPEG that GIMP's settings make of a picture.

    The parasite's layout (GIMP 3.0, ``plug-ins/file-jpeg/jpeg-settings.c``): colour space, IJG quality or 0, number of
    components, number of tables, two sampling factors a component, then the tables as big-endian 16-bit values in
    natural order.

    Raises:
        ValueError, LookupError: these are not settings, or of a kind that does not fit the picture.
    """
    quality, components, count = settings[1:4]
    factors = np.frombuffer(settings[4 : 4 + 2 * components], np.uint8).reshape(components, 2)
    start = 4 + 2 * components
    tables = np.frombuffer(settings[start : start + 128 * count], ">u2").reshape(count, 64).astype(int).tolist()
    if (components == 1) != (pixels.ndim == 2) or components not in (1, 3):
        raise ValueError(f"{components} components")
    options: dict[str, object] = {"qtables": tables} if tables else {"quality": quality or 75}
    if components == 3:
        options["subsampling"] = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}[tuple(factors[0].tolist())]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return JpegPhoto.from_bytes(buffer.getvalue())
