"""JPEG: the source's own container, so that everything is copied byte for byte."""

from __future__ import annotations

from codiff_batch.formats.output import Order, OutputFormat, Pixels
from codiff_batch.jpeg import JpegPhoto, encode_jpeg, refuse_jpeg
from codiff_batch.jpeg.encode import LARGEST_SIDE


def _encode(pixels: Pixels, source: JpegPhoto, order: Order) -> bytes:
    return encode_jpeg(pixels, source, note=order.note, quality=order.quality, drop_signature=order.drop_signature)


def _refuse(source: JpegPhoto, order: Order) -> None:
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
