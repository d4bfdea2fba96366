"""WebP: lossy, RGB only, so that a gray photo gets three equal channels."""

from __future__ import annotations

from codiff_batch.formats.carried import Carried
from codiff_batch.formats.output import Order, OutputFormat, Pixels, save
from codiff_batch.jpeg import JpegPhoto

_METHOD = 4
"""libwebp's effort, 0..6."""


def _encode(pixels: Pixels, source: JpegPhoto, order: Order) -> bytes:
    carried = Carried(source, order.note, gray=False)
    options = {"xmp": carried.xmp} if carried.xmp else {}
    exif = carried.exif_with_extras.block
    return save(pixels, WEBP, quality=order.quality, method=_METHOD, icc_profile=carried.icc, exif=exif, **options)


WEBP = OutputFormat("webp", "WebP", ".webp", "libwebp's quality", _encode, largest_side=16383)
