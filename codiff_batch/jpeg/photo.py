"""One source photo: its bytes are read once, and the file is never opened again."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codiff_batch.errors import DamagedJpeg, TooManyPixels, UnsupportedJpeg
from codiff_batch.files.opening import DEFAULT_MAX_BYTES
from codiff_batch.files.reading import read_whole
from codiff_batch.jpeg.header import Header, read_header
from codiff_batch.jpeg.metadata import MetadataSummary, has_xyb_colours, summarize
from codiff_batch.jpeg.pillow_pixels import PillowPixels
from codiff_batch.jpeg.segments import Structure, parse

DEFAULT_MAX_PIXELS = 200_000_000
"""Larger photos are refused unless the caller says otherwise. One of 200 megapixels takes 800 MB decoded, and 600 MB
more while it is copied."""


@dataclass(frozen=True)
class JpegPhoto:
    """A JPEG file that can be restored: structure and header are read, pixels are decoded on demand.

    Decoding methods may be called from several threads at once.
    """

    path: Path | None
    data: bytes
    structure: Structure
    header: Header

    @classmethod
    def open(cls, path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS, max_bytes: int = DEFAULT_MAX_BYTES) -> JpegPhoto:
        """Read a regular file.

        Raises:
            TooManyBytes: the file is larger than ``max_bytes``; nothing was read.
            PhotoError: as :meth:`from_bytes`, or the file cannot be read.
        """
        data = read_whole(path, max_bytes=max_bytes).data
        return cls.from_bytes(data, path=path, max_pixels=max_pixels)

    @classmethod
    def from_bytes(cls, data: bytes, *, path: Path | None = None, max_pixels: int = DEFAULT_MAX_PIXELS) -> JpegPhoto:
        """Read a file's bytes.

        Raises:
            NotJpeg: empty, or another format.
            DamagedJpeg: truncated, far too little data for its size, or headers that break the standard.
            UnsupportedJpeg: CMYK, more than 8 bits, lossless and other kinds that are not handled.
            TooManyPixels: the header announces more than ``max_pixels``; nothing was decoded.
        """
        structure = parse(data)
        header = read_header(structure)
        if has_xyb_colours(structure):
            raise UnsupportedJpeg("XYB colours, as jpegli can write them; only RGB and grayscale photos are handled")
        if header.width * header.height > max_pixels:
            size = f"{header.width}x{header.height} pixels"
            raise TooManyPixels(f"{size} is over the limit of {max_pixels / 1e6:g} megapixels")
        if "arithmetic" not in header.process and 8 * structure.scan_bytes < header.blocks:
            size = f"{header.width}x{header.height} pixels"  # Huffman codes take at least one bit for a block's mean.
            raise DamagedJpeg(f"the image data is far too short for {size}; the file is truncated")
        return cls(path, data, structure, header)

    def pixels(self) -> NDArray[np.uint8]:
        """Decode: (H, W, 3) RGB or (H, W) gray, as stored: an Orientation tag is not applied.

        Raises:
            DamagedJpeg: the decoder fails.
        """
        return np.asarray(self.decode())

    def decode(self) -> PillowPixels:
        """Like :meth:`pixels`, for callers who may need only parts of the picture.

        Raises:
            DamagedJpeg: the decoder fails.
        """
        from PIL.JpegImagePlugin import JpegImageFile

        # Pillow only sees the coded image: odd metadata cannot stop it, and its own limit on pixels, a global
        # setting that is not ours to change, is only applied by Image.open.
        try:
            coded = self.structure.emit_coded_image()
            with JpegImageFile(BytesIO(coded)) as image:
                image.decodermaxblock = len(coded)  # At once: between two blocks it would wait for Python's lock.
                image.load()
        except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error) as error:
            raise DamagedJpeg(f"cannot be decoded: {error}") from error
        pixels = PillowPixels(image)
        shape = self.header.height, self.header.width
        if pixels.shape != (shape if self.header.colour == "gray" else (*shape, 3)):
            raise DamagedJpeg("cannot be decoded: the decoder found another size or number of colours")
        return pixels

    def coefficients(self) -> tuple[NDArray[np.int16], ...]:
        """Quantized DCT coefficients, one array (rows, columns, 8, 8) per component; see :mod:`.coefficients`."""
        from codiff_batch.jpeg.coefficients import read_coefficients

        return read_coefficients(self)

    def metadata(self) -> MetadataSummary:
        """What metadata the file carries, for reports."""
        return summarize(self.structure)
