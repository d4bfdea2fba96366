"""The EXIF thumbnail, recreated from the restored picture.

It takes the old one's place, byte for byte: nothing else in the block moves, so maker notes and offsets stay valid.
If that cannot be done safely, the old thumbnail stays.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from codiff_batch.jpeg.exif import THUMBNAIL_LENGTH, Exif
from codiff_batch.jpeg.markers import APP1
from codiff_batch.jpeg.metadata import EXIF, exif_bytes
from codiff_batch.jpeg.photo import JpegPhoto

LARGEST = 640
"""Pixels per side; a picture that claims more is not a thumbnail."""
QUALITIES = (92, 85, 75, 65, 55)
"""Tried until the thumbnail fits into the old one's bytes."""


def with_fresh_thumbnail(photo: JpegPhoto, pixels: NDArray[np.uint8]) -> JpegPhoto:
    """The photo with a thumbnail of these pixels in its EXIF, or as it is where there is none that could be replaced.

    Args:
        photo: the source.
        pixels: uint8 (H, W, 3) or (H, W), orientation as stored.
    """
    block = exif_bytes(photo.structure)
    fresh = _fresh(block, pixels) if block is not None else None
    if block is None or fresh is None:
        return photo
    segments = list(photo.structure.segments)
    number = next(i for i, s in enumerate(segments) if s.marker == APP1 and s.payload == EXIF + block)
    segments[number] = replace(segments[number], payload=EXIF + fresh)
    return replace(photo, structure=replace(photo.structure, segments=tuple(segments)))


def _fresh(block: bytes, pixels: NDArray[np.uint8]) -> bytes | None:
    """The block with another thumbnail; None where it has none that could be replaced."""
    exif = Exif.read(block)
    place = None if exif is None else exif.thumbnail()
    if exif is None or place is None or not _stands_alone(exif, *place):
        return None
    start, length = place
    size = _size(block[start : start + length])
    if size is None:
        return None
    thumbnail = _made(pixels, size, length)
    entry = exif.find("1st", THUMBNAIL_LENGTH)
    kind = {2: "H", 4: "I"}.get(entry.size) if entry else None
    if thumbnail is None or entry is None or kind is None:
        return None
    changed = bytearray(block)
    changed[start : start + length] = thumbnail.ljust(length, b"\0")
    struct.pack_into(exif.order + kind, changed, entry.start, len(thumbnail))
    return bytes(changed)


def _stands_alone(exif: Exif, start: int, length: int) -> bool:
    """Return True if no directory and no value lies where the thumbnail does."""
    taken = [(0, 8)]
    for directory in exif.directories.values():
        (count,) = struct.unpack_from(exif.order + "H", exif.block, directory.at)
        taken.append((directory.at, 6 + 12 * count))
        taken += [(entry.start, entry.size) for entry in directory.entries]
    return all(at + size <= start or at >= start + length for at, size in taken)


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height of the old thumbnail; None if it is not such a JPEG."""
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        with JpegImageFile(BytesIO(data)) as image:
            return image.size if max(image.size) <= LARGEST else None
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return None


def _made(pixels: NDArray[np.uint8], size: tuple[int, int], length: int) -> bytes | None:
    """A JPEG of the picture in the old one's size, black beside it where that had bars; None if it does not fit."""
    from PIL import Image, ImageOps

    picture = Image.fromarray(pixels)
    if (picture.width - picture.height) * (size[0] - size[1]) < 0:
        return None  # The old one was rotated; this one would be on its side.
    small = ImageOps.contain(picture, size)
    if max(abs(small.width - size[0]), abs(small.height - size[1])) <= 1:
        small = picture.resize(size, Image.Resampling.LANCZOS)
    else:
        small = ImageOps.pad(picture, size)
    for quality in QUALITIES:
        buffer = BytesIO()
        small.save(buffer, "JPEG", quality=quality, subsampling=2)
        if buffer.tell() <= length:
            return buffer.getvalue()
    return None
