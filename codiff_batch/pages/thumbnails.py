"""Thumbnails for a page, and how much a photo was changed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from codiff_batch.errors import DamagedJpeg, TooManyPixels
from codiff_batch.files.audience import create
from codiff_batch.files.opening import DEFAULT_MAX_BYTES
from codiff_batch.files.reading import read_whole
from codiff_batch.files.text import printable
from codiff_batch.jpeg import DEFAULT_MAX_PIXELS, JpegPhoto

log = logging.getLogger(__name__)

SIDE = 320
"""Longest side of a thumbnail, in pixels."""
COMPARED = 1024
"""Photos are compared at about this size or more, which a JPEG decoder reaches without full decoding."""
SUFFIX = ".webp"
"""Of thumbnails: not a JPEG's, so that no scan of the folder takes them for photos."""

OUTPUT_READERS = {
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
    ".jxl": "JXL",
}
"""Pillow's readers for outputs in other formats: none that starts a program."""

_JPEG = b"\xff\xd8"

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Thumbnails:
    """The thumbnails of one photo."""

    before: str | None = None
    """Name of the thumbnail's file in the folder."""
    after: str | None = None
    change: float | None = None
    """Mean difference between before and after in levels, at reduced size."""


def make_thumbnails(folder: Path, name: str, before: Path | None, after: Path | None) -> Thumbnails:
    """Write the thumbnails of a photo, for those who may read it; a file that cannot be read gets none.

    Args:
        folder: where to write.
        name: how their names begin.
        before: the photo's file, a JPEG, if any.
        after: the restored one, a JPEG or one of :data:`OUTPUT_READERS`.

    Raises:
        OSError: a thumbnail cannot be written.
    """
    pictures: dict[str, Image.Image] = {}
    orientation = None
    for kind, path in (("before", before), ("after", after)):
        if path is None:
            continue
        try:
            pictures[kind], found = _read(path)
        except Exception as error:  # One odd file must not cost the page.
            log.debug("no thumbnail of %s: %s", printable(str(path)), error)
            continue
        orientation = orientation or found
    names = {}
    for kind, picture in pictures.items():
        names[kind] = f"{name}-{kind}{SUFFIX}"
        shown = upright(picture, orientation)
        shown.thumbnail((SIDE, SIDE))
        buffer = BytesIO()
        shown.save(buffer, "WEBP", quality=80, method=2)
        create(folder / names[kind], buffer.getvalue(), [path for path in (before, after) if path is not None])
    return Thumbnails(names.get("before"), names.get("after"), _change(list(pictures.values())))


def reduced(photo: JpegPhoto, side: int) -> Image.Image:
    """A photo at the smallest of the decoder's sizes that is at least ``side`` pixels, RGB or L, as stored.

    Raises:
        DamagedJpeg: the decoder fails.
    """
    try:
        # The decoder sees only the coded image: metadata cannot stop it.
        with JpegImageFile(BytesIO(photo.structure.emit_coded_image())) as image:
            image.draft(None, (side, side))
            return image.copy() if image.mode in ("L", "RGB") else image.convert("RGB")
    except Exception as error:
        raise DamagedJpeg(f"cannot be decoded: {error}") from error


def upright(picture: Image.Image, orientation: int | None) -> Image.Image:
    """A copy of a picture, turned by its EXIF Orientation, 1..8."""
    turn = _TURNS.get(orientation or 1)
    return picture.copy() if turn is None else picture.transpose(turn)


def _read(path: Path) -> tuple[Image.Image, int | None]:
    """A picture of moderate size, not turned, and its orientation if the file has one."""
    data, reader = read_whole(path, max_bytes=DEFAULT_MAX_BYTES).data, OUTPUT_READERS.get(path.suffix.lower())
    if reader is None or data.startswith(_JPEG):
        photo = JpegPhoto.from_bytes(data)
        return reduced(photo, COMPARED), photo.metadata().orientation
    with Image.open(BytesIO(data), formats=[reader]) as image:
        if image.width * image.height > DEFAULT_MAX_PIXELS:
            raise TooManyPixels(f"{image.width}x{image.height}")
        return image.convert("L" if image.mode == "L" else "RGB"), None


def _change(pictures: Sequence[Image.Image]) -> float | None:
    if len(pictures) != 2:
        return None
    first, second = (picture.convert("RGB") for picture in pictures)
    if abs(first.width * second.height - first.height * second.width) > first.width + first.height:
        return None  # of another shape
    if second.size != first.size:
        second = second.resize(first.size, Image.Resampling.BOX)
    one, other = (np.asarray(picture, np.int16) for picture in (first, second))
    return round(float(np.abs(one - other).mean()), 2)
