"""A source picture that is not a JPEG: read if it can be kept exactly, refused if something would be lost."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codiff_batch.errors import DamagedPicture, TooManyPixels, UnsupportedPicture
from codiff_batch.jpeg.exif import ORIENTATION, Exif
from codiff_batch.jpeg.metadata import MetadataSummary, summarize
from codiff_batch.jpeg.segments import Structure
from codiff_batch.rasters.metadata import as_segments, latest_note
from codiff_batch.rasters.note import is_of

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_TITLES = {"png": "PNG", "bmp": "BMP", "tiff": "TIFF", "webp": "WebP"}

_IHDR_DEPTH = 24
"""Of a PNG's bit depth, in bytes from its start."""
_TILE_WIDTH, _TILE_LENGTH, _BITS, _SUB_IFDS = 322, 323, 258, 330
_LARGEST_TILE = 1 << 24
"""Pixels; decoders take memory for a whole tile, whatever the picture's size."""
_ANIMATED = 0x02
"""In the first byte of a WebP's VP8X chunk."""


@dataclass(frozen=True)
class RasterHeader:
    """What is known of a picture before it is decoded."""

    width: int
    height: int
    colour: str
    """``gray`` or ``rgb``."""
    process: str
    """The kind of file: ``PNG``, ``BMP``, ``TIFF`` or ``lossless WebP``."""

    @property
    def qf(self) -> None:
        """No header tells how the picture was compressed before."""
        return

    @property
    def sampling(self) -> str:
        """As for a JPEG: ``4:4:4`` or ``gray``."""
        return "gray" if self.colour == "gray" else "4:4:4"


@dataclass(frozen=True, eq=False)
class Raster:
    """A picture that can be restored: header and metadata are read, pixels are decoded on demand."""

    path: Path | None
    data: bytes
    kind: str
    """See :data:`~codiff_batch.rasters.kinds.SUFFIXES`."""
    header: RasterHeader
    structure: Structure
    """Its metadata as the segments of a JPEG, and nothing else."""
    note: str | None
    """This program's latest note, even if the picture was changed since."""

    @classmethod
    def from_bytes(cls, data: bytes, kind: str, *, path: Path | None, max_pixels: int) -> Raster:
        """Read a file's bytes; nothing is decoded.

        Raises:
            DamagedPicture: it cannot be read.
            UnsupportedPicture: of a kind that would lose something: more than 8 bits, palette, several pictures.
            TooManyPixels: the header announces more than ``max_pixels``.
        """
        try:
            with _reader(data, kind) as image, _reader(_as_stored(data, kind), kind) as stored:
                width, height = stored.size
                if width * height > max_pixels:
                    size = f"{width}x{height} pixels"
                    raise TooManyPixels(f"{size} is over the limit of {max_pixels / 1e6:g} megapixels")
                _refuse_more_than_decoded(stored, kind)
                _refuse(image, data, kind)
                colour = "gray" if image.mode in ("L", "LA") else "rgb"
                header = RasterHeader(width, height, colour, "lossless WebP" if kind == "webp" else _TITLES[kind])
                return cls(path, data, kind, header, as_segments(image, kind), latest_note(image, kind))
        except _ERRORS as error:
            raise DamagedPicture(f"cannot be read as {_TITLES[kind]}: {error}") from error

    def pixels(self) -> NDArray[np.uint8]:
        """Decode: (H, W, 3) RGB or (H, W) gray, as stored: an Orientation tag is not applied.

        Raises:
            DamagedPicture: the decoder fails.
            UnsupportedPicture: something in it is transparent.
        """
        return self._pixels.copy()

    def metadata(self) -> MetadataSummary:
        """What metadata the file carries, for reports."""
        found = summarize(self.structure)
        return replace(found, restored_by=self.note if self.note and is_of(self.note, self._pixels) else None)

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        try:
            with _reader(_as_stored(self.data, self.kind), self.kind) as image:
                image.load()
                if image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema()[0] != 255:
                    raise UnsupportedPicture("parts of it are transparent, which would be lost")
                pixels = np.asarray(image.convert(image.mode.removesuffix("A")))
        except _ERRORS as error:
            raise DamagedPicture(f"cannot be decoded: {error}") from error
        if pixels.shape[:2] != (self.header.height, self.header.width):
            raise DamagedPicture("cannot be decoded: the decoder found another size")
        return pixels


_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, struct.error)
"""What Pillow's readers raise for invalid files."""


def _reader(data: bytes, kind: str) -> ImageFile:
    """Pillow's reader for one kind."""
    from PIL import BmpImagePlugin, Image, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    readers: dict[str, type[ImageFile]] = {
        "png": PngImagePlugin.PngImageFile,
        "bmp": BmpImagePlugin.BmpImageFile,
        "tiff": TiffImagePlugin.TiffImageFile,
        "webp": WebPImagePlugin.WebPImageFile,
    }
    try:
        return readers[kind](BytesIO(data))
    except Image.DecompressionBombError as error:
        raise UnsupportedPicture(_more_than_decoded(kind)) from error


def _refuse_more_than_decoded(image: ImageFile, kind: str) -> None:
    """Refuse now what Pillow's global limit on pixels would stop in TIFF's decoder; only WebP's reader applies it."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    if kind == "tiff" and limit is not None and image.width * image.height > 2 * limit:
        raise UnsupportedPicture(_more_than_decoded(kind))


def _more_than_decoded(kind: str) -> str:
    return f"more pixels than the decoder of {_TITLES[kind]} takes"


def _refuse(image: ImageFile, data: bytes, kind: str) -> None:
    """Refuse pictures that would lose something."""
    if (depth := _depth(image, data, kind)) != 8:
        raise UnsupportedPicture(f"{depth} bits per sample; only 8 are handled")
    if image.mode == "P":
        raise UnsupportedPicture("palette colours; only RGB and grayscale pictures are handled")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise UnsupportedPicture(f"{image.mode} colours; only RGB and grayscale pictures are handled")
    if "transparency" in image.info:
        raise UnsupportedPicture("one of its colours is transparent, which would be lost")
    if _holds_several(image, data, kind):
        raise UnsupportedPicture("it holds several pictures, of which all but one would be lost")
    if kind == "webp" and _webp_chunk(data, b"VP8L") is None:
        raise UnsupportedPicture("lossy WebP, whose own compression hides that of a JPEG")


def _depth(image: ImageFile, data: bytes, kind: str) -> int:
    if kind == "png":
        return data[_IHDR_DEPTH]
    if kind == "bmp":
        bits = int.from_bytes(data[28:30], "little") if data[14:18] != b"\x0c\0\0\0" else 8
        return 8 if bits >= 24 else min(bits, 8) if bits != 16 else 5
    if kind == "tiff":
        return int(max(image.tag_v2.get(_BITS, (1,))))  # type: ignore[attr-defined]
    return 8


def _holds_several(image: ImageFile, data: bytes, kind: str) -> bool:
    if kind == "tiff":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0) > _LARGEST_TILE:
            raise UnsupportedPicture("its tiles are too large")
        return bool(tags.next) or _SUB_IFDS in tags
    if kind == "webp":
        extended = _webp_chunk(data, b"VP8X")
        return extended is not None and bool(data[extended] & _ANIMATED)
    return bool(getattr(image, "is_animated", False))


def _webp_chunk(data: bytes, wanted: bytes) -> int | None:
    """Where a chunk's content starts (RFC 9649, 2.4); its size stands before."""
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] == wanted:
            return at + 8
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return None


def _as_stored(data: bytes, kind: str) -> bytes:
    """The file with Orientation 1 if it is TIFF: Pillow turns those, and no others, while it decodes them."""
    exif = Exif.read(data) if kind == "tiff" else None
    entry = exif.find("0th", ORIENTATION) if exif else None
    if exif is None or entry is None or entry.size != 2:
        return data
    return data[: entry.start] + struct.pack(exif.order + "H", 1) + data[entry.start + 2 :]
