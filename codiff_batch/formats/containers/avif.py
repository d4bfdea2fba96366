"""AVIF: lossy; gray stays gray (4:0:0)."""

from __future__ import annotations

from typing import Any

from codiff_batch.formats.carried import Carried
from codiff_batch.formats.output import Order, OutputFormat, Pixels, save
from codiff_batch.jpeg.exif import ORIENTATION
from codiff_batch.rasters.source import Source

_SPEED = 6
"""libavif's 0 (slow) to 10."""


def _encode(pixels: Pixels, source: Source, order: Order) -> bytes:
    from PIL import Image

    gray = pixels.ndim == 2
    carried = Carried(source, order.note, gray=gray)
    block = carried.exif_with_extras.block
    orientation = carried.exif.number("0th", ORIENTATION)

    class Verbatim(Image.Exif):
        """Pillow takes the orientation for AVIF's own properties from here, and the bytes as they are.

        Otherwise it would rewrite the whole block. The tag stays in the block too, as in files from phones; readers of
        AVIF use the properties (MIAF, 7.3.6.7).
        """

        def __bool__(self) -> bool:
            return True

        def tobytes(self, offset: int = 8) -> bytes:
            return b"Exif\0\0" + block

    exif = Verbatim()
    if orientation in range(2, 9):
        exif[ORIENTATION] = orientation
    options: dict[str, Any] = {"xmp": carried.xmp} if carried.xmp else {}
    sampling = "4:0:0" if gray else "4:4:4"
    return save(
        pixels,
        AVIF,
        quality=order.quality,
        speed=_SPEED,
        subsampling=sampling,
        icc_profile=carried.icc,
        exif=exif,
        **options,
    )


AVIF = OutputFormat("avif", "AVIF", ".avif", "libavif's quality", _encode, largest_side=65536)
