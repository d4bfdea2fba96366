"""TIFF: lossless, not compressed, gray or RGB.

An EXIF block is a TIFF file without a picture. So the output *is* the source's EXIF block, followed by the picture and
a new first directory: every offset inside, including those of maker notes, stays valid. Pillow and libtiff rewrite EXIF
and lose what they do not know, such as the Interoperability directory, which may be the only sign of Adobe RGB.
"""

from __future__ import annotations

import struct

import numpy as np

from codiff_batch.errors import PhotoError
from codiff_batch.formats.carried import ICC_TAG, IPTC_TAG, PHOTOSHOP_TAG, XMP_TAG, Carried
from codiff_batch.formats.output import Order, OutputFormat, Pixels
from codiff_batch.jpeg.exif import (
    LONG,
    ORIENTATION,
    RATIONAL,
    RESOLUTION_UNIT,
    SHORT,
    UNDEFINED,
    X_RESOLUTION,
    Y_RESOLUTION,
    Exif,
    Field,
    with_fields,
)
from codiff_batch.rasters.source import Source

_LARGEST = (1 << 32) - (1 << 26)
"""Bytes of pixels: offsets have 32 bits, and metadata has to fit too."""
_BYTE = 1


def _encode(pixels: Pixels, source: Source, order: Order) -> bytes:
    _refuse(source, order)
    carried = Carried(source, order.note, gray=pixels.ndim == 2)
    byte_order, block = carried.exif.order, _with_legal_values(carried.exif)
    height, width = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else 3
    start = len(block) + len(block) % 2

    def numbers(tag: int, *values: int) -> Field:
        kind, code = (LONG, "I") if max(values) > 0xFFFF else (SHORT, "H")
        return Field(tag, kind, len(values), struct.pack(f"{byte_order}{len(values)}{code}", *values))

    fields = [
        numbers(0x0100, width),
        numbers(0x0101, height),
        numbers(0x0102, *[8] * samples),
        numbers(0x0103, 1),  # Compression: none
        numbers(0x0106, 1 if samples == 1 else 2),  # PhotometricInterpretation: black is zero, or RGB
        numbers(0x0111, start),
        numbers(0x0115, samples),
        numbers(0x0116, height),
        numbers(0x0117, pixels.nbytes),
        numbers(0x011C, 1),  # PlanarConfiguration: chunky
        *_no_density(carried),
        carried.note_field(),
        *carried.density_fields(),
        *carried.comment_field(),
    ]
    blobs = ((XMP_TAG, _BYTE, carried.xmp), (IPTC_TAG, UNDEFINED, carried.iptc), (ICC_TAG, UNDEFINED, carried.icc))
    for tag, kind, blob in (*blobs, (PHOTOSHOP_TAG, _BYTE, carried.photoshop)):
        if blob:
            fields.append(Field(tag, kind, len(blob), blob))
    picture = b"".join((block, b"\0" * (len(block) % 2), np.ascontiguousarray(pixels).data))
    # Readers would take a thumbnail's directory for a second page.
    return with_fields(picture, fields, keep_following=False)


def _with_legal_values(exif: Exif) -> bytes:
    """The block without values that are harmless in EXIF but make libtiff refuse the whole file."""
    legal = {ORIENTATION: range(1, 9), RESOLUTION_UNIT: range(1, 4)}
    illegal = {tag for tag, values in legal.items() if exif.number("0th", tag) not in values}
    return exif.without(lambda directory, entry: directory == "0th" and entry.tag in illegal)


def _no_density(carried: Carried) -> list[Field]:
    """Square pixels without a unit if nothing is known: TIFF requires a resolution."""
    if carried.density is not None or carried.exif.find("0th", X_RESOLUTION):
        return []
    order = carried.exif.order
    one = struct.pack(order + "II", 1, 1)
    unit = Field(RESOLUTION_UNIT, SHORT, 1, struct.pack(order + "H", 1))
    return [Field(X_RESOLUTION, RATIONAL, 1, one), Field(Y_RESOLUTION, RATIONAL, 1, one), unit]


def _refuse(source: Source, order: Order) -> None:
    header = source.header
    if header.width * header.height * (1 if header.colour == "gray" else 3) > _LARGEST:
        raise PhotoError("cannot be written as TIFF: more than 4 GB")


TIFF = OutputFormat(
    "tiff", "TIFF", ".tif", "ignored: lossless", _encode, largest_side=(1 << 31) - 1, refuse=_refuse, lossless=True
)
