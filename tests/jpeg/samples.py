"""Small JPEGs for tests, made by Pillow and taken apart or put together by our own segments."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codiff_batch.errors import PhotoError
from codiff_batch.jpeg import JpegPhoto, Segment, Structure
from codiff_batch.jpeg.segments import parse

NOTE = "codiff-batch test"
CORPUS_LIMIT = 4_000_000
"""Pixels; keeps sweeps over the corpus quick without leaving a kind of file out."""


def picture(height: int = 72, width: int = 104, *, gray: bool = False) -> NDArray[np.uint8]:
    """A smooth picture with some noise, so that coefficients of all frequencies occur."""
    random = np.random.default_rng(7)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [127 + 70 * np.sin(rows / (5 + i)) * np.cos(columns / (9 - i)) for i in range(3)]
    noisy = np.stack(waves, axis=-1) + random.normal(0, 6, (height, width, 3))
    pixels = noisy.clip(0, 255).astype(np.uint8)
    return pixels[..., 0].copy() if gray else pixels


def jpeg(pixels: NDArray[np.uint8] | None = None, **options: Any) -> bytes:
    """A JPEG file by Pillow; options as for ``Image.save``."""
    buffer = BytesIO()
    image = Image.fromarray(picture() if pixels is None else pixels)
    image.save(buffer, "JPEG", **{"quality": 50, **options})
    return buffer.getvalue()


def with_segments(data: bytes, *added: Segment, trailer: bytes = b"") -> bytes:
    """The file with segments put in behind SOI and JFIF."""
    soi, jfif, *rest = parse(data).segments
    return Structure((soi, jfif, *added, *rest), trailer).emit()


def with_frame(data: bytes, marker: int | None = None, *, at: int = 0, change: bytes = b"") -> bytes:
    """The file with another frame marker, or with bytes of the frame header changed."""
    segments = list(parse(data).segments)
    number = next(i for i, s in enumerate(segments) if s.marker in (0xC0, 0xC2))
    old = segments[number]
    payload = old.payload[:at] + change + old.payload[at + len(change) :]
    segments[number] = Segment(old.marker if marker is None else marker, payload)
    return Structure(tuple(segments), b"").emit()


def exif_block(first: dict[int, Any], details: dict[int, Any] | None = None, **directories: dict[int, Any]) -> bytes:
    """An EXIF block by Pillow, without its header: fields of the first directory, of Exif and of ``gps``."""
    exif = Image.Exif()
    exif.endian = "<"
    exif.update(first)
    for pointer, fields in ((0x8769, details), (0x8825, directories.get("gps"))):
        if fields:
            exif.get_ifd(pointer).update(fields)
    return exif.tobytes()[6:]


def adobe(transform: int) -> Segment:
    """Adobe's APP14, which says how colours are coded: 0 as they are, 1 YCbCr."""
    return Segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


def multi_picture_index(offset: int, first_size: int, second_size: int) -> Segment:
    """An MPF index of two pictures (CIPA DC-007, 5.2.3): version, number of pictures, entries."""
    fields = [(0xB000, 7, 4, b"0100"), (0xB001, 4, 1, struct.pack(">I", 2)), (0xB002, 7, 32, struct.pack(">I", 50))]
    directory = b"".join(struct.pack(">HHI", *field[:3]) + field[3] for field in fields) + bytes(4)
    entries = [(0x20030000, first_size, 0, 0, 0), (0, second_size, offset, 0, 0)]
    head = b"MPF\0" + b"MM\0*" + struct.pack(">IH", 8, 3)
    return Segment(0xE2, head + directory + b"".join(struct.pack(">IIIHH", *entry) for entry in entries))


def decodable(corpus: list[Path]) -> Iterator[tuple[JpegPhoto, NDArray[np.uint8]]]:
    """Photos of the corpus that can be restored, with their pixels."""
    for path in corpus:
        try:
            photo = JpegPhoto.open(path, max_pixels=CORPUS_LIMIT)
            yield photo, photo.pixels()
        except PhotoError:
            continue
