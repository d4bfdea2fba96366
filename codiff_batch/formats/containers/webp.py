"""WebP: RGB only, so a gray photo gets three equal channels. Lossy, unless the source is lossless WebP."""

from __future__ import annotations

from typing import Any

from codiff_batch.formats.carried import Carried
from codiff_batch.formats.output import Order, OutputFormat, Pixels, save
from codiff_batch.rasters.raster import Raster
from codiff_batch.rasters.source import Source

_METHOD = 4
"""libwebp's effort, 0..6."""


def is_lossless(source: Source) -> bool:
    """Whether a source is WebP itself: only lossless ones are taken, and stay what they are."""
    return isinstance(source, Raster) and source.kind == "webp"


def _encode(pixels: Pixels, source: Source, order: Order) -> bytes:
    carried = Carried(source, order.note, gray=False)
    options: dict[str, Any] = {"xmp": carried.xmp} if carried.xmp else {}
    exif = carried.exif_with_extras.block
    if is_lossless(source):
        options["lossless"] = True
    return save(pixels, WEBP, quality=order.quality, method=_METHOD, icc_profile=carried.icc, exif=exif, **options)


WEBP = OutputFormat("webp", "WebP", ".webp", "libwebp's quality", _encode, largest_side=16383)
