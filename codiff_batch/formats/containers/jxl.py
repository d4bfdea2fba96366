"""JPEG XL: lossy, lossless at quality 100; an optional extra.

pylibjxl writes ICC profiles, EXIF and XMP. pillow-jxl-plugin, which is better known, cannot write a profile, so an
Adobe RGB photo would lose its colours. Neither can write an orientation, and readers of JPEG XL ignore EXIF's, so the
pixels are rotated instead.
"""

from __future__ import annotations

import struct

import numpy as np

from codiff_batch.errors import PhotoError
from codiff_batch.formats.carried import Carried
from codiff_batch.formats.output import Order, OutputFormat, Pixels
from codiff_batch.jpeg.exif import ORIENTATION
from codiff_batch.rasters.source import Source

_EFFORT = 5
"""libjxl's 1 to 9; its default of 7 takes three times as long for a few per cent."""


_START = b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
"""Signature and file type (ISO/IEC 18181-2, 9). Boxes are ours: pylibjxl's are compressed, which few programs read."""


def _encode(pixels: Pixels, source: Source, order: Order) -> bytes:
    carried = Carried(source, order.note, gray=pixels.ndim == 2)
    turned = _upright(pixels, carried.exif.number("0th", ORIENTATION) or 1)
    block = carried.upright().exif_with_extras.block
    picture = np.ascontiguousarray(turned if turned.ndim == 3 else turned[..., None])
    try:
        coded = _code(picture, order.quality, carried.icc)
    except PhotoError:
        # libjxl refuses damaged profiles; the picture matters more.
        coded = _code(picture, order.quality, None)
    # With a profile, the library has already made a container.
    file = coded if coded.startswith(_START) else _START + _box(b"jxlc", coded)
    # An Exif box starts with the offset of the block in what follows.
    return b"".join([file, _box(b"Exif", bytes(4) + block), _box(b"xml ", carried.xmp) if carried.xmp else b""])


def _code(picture: Pixels, quality: int, icc: bytes | None) -> bytes:
    import pylibjxl

    lossless = quality == 100
    try:
        coded: bytes = pylibjxl.encode(picture, effort=_EFFORT, distance=_distance(quality), lossless=lossless, icc=icc)
    except (RuntimeError, ValueError) as error:
        raise PhotoError(f"cannot be written as JPEG XL: {error}") from error
    return coded


def _box(kind: bytes, content: bytes) -> bytes:
    """One box of the container; a length of 1 announces one of 64 bits."""
    size = 8 + len(content)
    if size >> 32:
        return struct.pack(">I4sQ", 1, kind, size + 8) + content
    return struct.pack(">I4s", size, kind) + content


def _distance(quality: int) -> float:
    """Libjxl's distance for a quality (``JxlEncoderDistanceFromQuality``)."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09 if quality < 100 else 0.0
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Rotate and mirror by EXIF's orientation 1..8."""
    if orientation in range(5, 9):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


JXL = OutputFormat(
    "jxl",
    "JPEG XL",
    ".jxl",
    "libjxl's quality; 100 is lossless",
    _encode,
    largest_side=(1 << 30) - 1,
    module="pylibjxl",
    extra="jxl",
)
