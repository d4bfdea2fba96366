"""JPEG: the source's own container, so everything is copied byte for byte."""

from __future__ import annotations

from codiff_batch.errors import PhotoError
from codiff_batch.formats.output import Order, OutputFormat, Pixels
from codiff_batch.jpeg import encode_jpeg, refuse_jpeg
from codiff_batch.jpeg.encode import LARGEST_SIDE
from codiff_batch.rasters.source import Source

_LARGEST_PAYLOAD = 65533
"""Bytes of one segment, whose length has 16 bits and counts itself."""


def _encode(pixels: Pixels, source: Source, order: Order) -> bytes:
    return encode_jpeg(pixels, source, note=order.note, quality=order.quality, drop_signature=order.drop_signature)


def _refuse(source: Source, order: Order) -> None:
    if any(len(segment.payload) > _LARGEST_PAYLOAD for segment in source.structure.metadata):
        raise PhotoError("cannot be written as JPEG: a block of its metadata is larger than 64 KB")
    refuse_jpeg(source, drop_signature=order.drop_signature)


JPEG = OutputFormat(
    "jpeg",
    "JPEG",
    ".jpg",
    "libjpeg's quality factor",
    _encode,
    largest_side=LARGEST_SIDE,
    refuse=_refuse,
    keeps_source_bytes=True,
)
