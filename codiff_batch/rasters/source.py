"""Sources of any kind: JPEG files, and pictures that once were JPEGs."""

from __future__ import annotations

from pathlib import Path

from codiff_batch.errors import NotJpeg
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.rasters.kinds import kind_of
from codiff_batch.rasters.raster import Raster

Source = JpegPhoto | Raster
"""Anything that can be restored; its metadata is in JPEG segments in either case."""


def open_source(data: bytes, types: tuple[str, ...], *, path: Path | None, max_pixels: int) -> Source:
    """Read a file by its content, not by its name.

    Args:
        data: the whole file.
        types: kinds that are taken, see :data:`~codiff_batch.rasters.kinds.SUFFIXES`.
        path: where it comes from.
        max_pixels: larger pictures are refused.

    Raises:
        NotJpeg: of another kind.
        PhotoError: as :meth:`JpegPhoto.from_bytes` or :meth:`Raster.from_bytes`.
    """
    kind = kind_of(data)
    if kind is not None and kind in types:
        return Raster.from_bytes(data, kind, path=path, max_pixels=max_pixels)
    if data[:2] == b"\xff\xd8" and "jpeg" not in types:
        raise NotJpeg(f"a JPEG file; only {', '.join(types)} are taken")
    return JpegPhoto.from_bytes(data, path=path, max_pixels=max_pixels)
