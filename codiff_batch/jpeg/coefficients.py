"""Quantized DCT coefficients, read by jpeglib.

jpeglib is libjpeg-turbo behind a small C interface, with wheels for the common platforms; the alternatives (jpegio,
torchjpeg, simplejpeg) need a compiler or torch, or give no coefficients.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codiff_batch.errors import DamagedJpeg, Role, UnsupportedJpeg
from codiff_batch.jpeg import markers

if TYPE_CHECKING:
    from codiff_batch.jpeg.photo import JpegPhoto


_headers = threading.Lock()
"""The library collects a file's markers in variables of its own: two threads at a time would crash the program."""


def read_coefficients(photo: JpegPhoto) -> tuple[NDArray[np.int16], ...]:
    """Entropy-decode a photo.

    Returns:
        One int16 array (rows, columns, 8, 8) of blocks per component, natural order: the last two axes are
        vertical and horizontal frequency. Values are multiples of the component's quantization table.

    Raises:
        DamagedJpeg: the library fails, or finds another geometry.
        UnsupportedJpeg: arithmetic coding, which the library's builds leave out, or no Huffman tables.
    """
    import jpeglib

    if not has_readable_coefficients(photo):
        raise UnsupportedJpeg("coefficients of arithmetic-coded files, or without Huffman tables, cannot be read")
    handle, name = tempfile.mkstemp(suffix=".jpg")
    try:
        # The library takes a path and opens it itself; it gets a copy of the coded image, never the source.
        with os.fdopen(handle, "wb") as file:
            file.write(photo.structure.emit_coded_image())
        with _headers:
            decoded = jpeglib.read_dct(name)
        # Only now are coefficients decoded, which takes longest and needs nothing in common.
        planes = [decoded.Y, decoded.Cb, decoded.Cr][: len(photo.header.components)]
        blocks = tuple(np.asarray(plane, np.int16) for plane in planes)
    except (OSError, ValueError, RuntimeError) as error:
        raise DamagedJpeg("its coefficients cannot be read", Role.CONSTRAIN) from error
    finally:
        Path(name).unlink()
    for component, plane in zip(photo.header.components, blocks, strict=True):
        if plane.shape != (*block_counts(photo, component.h, component.v), 8, 8):
            raise DamagedJpeg("its coefficients have an unexpected geometry", Role.CONSTRAIN)
    return blocks


def has_readable_coefficients(photo: JpegPhoto) -> bool:
    """Return True if jpeglib can read the file: Huffman-coded, with its own tables (unlike Motion JPEG frames)."""
    has_tables = any(segment.marker == markers.DHT for segment in photo.structure.segments)
    return has_tables and not photo.header.process.startswith("arithmetic")


def block_counts(photo: JpegPhoto, h: int, v: int) -> tuple[int, int]:
    """Rows and columns of 8x8 blocks that cover a component with these sampling factors (T.81, A.1.1)."""
    largest_h, largest_v = photo.header.max_sampling
    rows = -(-photo.header.height * v // largest_v)
    columns = -(-photo.header.width * h // largest_h)
    return -(-rows // 8), -(-columns // 8)
