"""PNG (third edition): lossless, gray or RGB."""

from __future__ import annotations

import struct
import zlib

from codiff_batch.formats.carried import Carried, Density
from codiff_batch.formats.output import Order, OutputFormat, Pixels, save
from codiff_batch.formats.png_chunks import has_text, with_chunks_of
from codiff_batch.rasters.raster import Raster
from codiff_batch.rasters.source import Source

_RAW_PROFILE = "\niptc\n{size:8d}\n{lines}\n"
"""ImageMagick's way to keep Photoshop's resources in a PNG; exiftool and libvips read it."""
_HEX_A_LINE = 72
_HEADER = 8 + 4 + 4 + 13 + 4
"""Bytes of the signature and the IHDR chunk."""


def _encode(pixels: Pixels, source: Source, order: Order) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    if isinstance(source, Raster) and source.kind == "png":
        return _spliced(pixels, source, order)
    carried = Carried(source, order.note, gray=pixels.ndim == 2)
    info = PngInfo()
    info.add_text("Software", order.note)
    for comment in carried.comments:
        info.add_itxt("Comment", comment)
    if carried.xmp:
        info.add_itxt("XML:com.adobe.xmp", carried.xmp.decode("utf-8"))
    if resources := carried.photoshop.hex():
        lines = "\n".join(resources[at : at + _HEX_A_LINE] for at in range(0, len(resources), _HEX_A_LINE))
        info.add_text("Raw profile type iptc", _RAW_PROFILE.format(size=len(resources) // 2, lines=lines), zip=True)
    options = {"exif": carried.exif.block} if carried.exif.directories["0th"].entries else {}
    data = save(pixels, PNG, icc_profile=carried.icc, pnginfo=info, **options)
    return data if carried.density is None else _with_density(data, carried.density)


def _spliced(pixels: Pixels, source: Raster, order: Order) -> bytes:
    """Copy a PNG's own chunks; only the note is added."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Processing Software" if has_text(source.data, b"Software") else "Software", order.note)
    return with_chunks_of(save(pixels, PNG, pnginfo=info), source.data)


def _with_density(png: bytes, density: Density) -> bytes:
    """The file with a pHYs chunk after its header; Pillow writes none for plain proportions."""
    body = b"pHYs" + struct.pack(">IIB", *density.per_metre(), bool(density.unit))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_HEADER] + chunk + png[_HEADER:]


PNG = OutputFormat("png", "PNG", ".png", "ignored: lossless", _encode, largest_side=(1 << 31) - 1, lossless=True)
