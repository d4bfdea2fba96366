"""Output formats: one file each, and this registry. A new format is a new file and its name here.

``docs/metadata.md`` says what each container carries, in a table that the tests write.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from codiff_batch.errors import OptionsConflict, PhotoError
from codiff_batch.formats.avif import AVIF
from codiff_batch.formats.jpeg import JPEG
from codiff_batch.formats.jxl import JXL
from codiff_batch.formats.output import Order, OutputFormat, Pixels
from codiff_batch.formats.png import PNG
from codiff_batch.formats.tiff import TIFF
from codiff_batch.formats.webp import WEBP, is_lossless
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.jpeg.encode import check_picture
from codiff_batch.jpeg.thumbnail import with_fresh_thumbnail
from codiff_batch.rasters import SUFFIXES, Raster, Source
from codiff_batch.rasters.note import with_digest

FORMATS = MappingProxyType({format.name: format for format in (JPEG, PNG, WEBP, TIFF, AVIF, JXL)})

SAME = "same"
"""The source's own format."""

NAMES = (SAME, *FORMATS)
"""What ``--format`` takes."""

__all__ = ["FORMATS", "NAMES", "SAME", "Order", "OutputFormat", "encode", "find_format", "refuse", "suffix_of"]


def find_format(name: str) -> OutputFormat:
    """A format by its name; ``same`` is JPEG where nothing is known of the source.

    Raises:
        OptionsConflict: there is none of that name, or this machine cannot write it.
    """
    try:
        format = FORMATS["jpeg" if name == SAME else name]
    except KeyError:
        raise OptionsConflict(f"no output format is called {name}; there are {', '.join(NAMES)}") from None
    format.check()
    return format


def suffix_of(name: str, source: str = "") -> str | None:
    """What outputs of a format are called; None where they keep the source's name.

    Args:
        name: of the format.
        source: the source's suffix.
    """
    if name == SAME:
        return PNG.suffix if source.lower() in SUFFIXES["bmp"] else None
    if name == "jpeg":
        others = frozenset().union(*(suffixes for kind, suffixes in SUFFIXES.items() if kind != "jpeg"))
        return JPEG.suffix if source.lower() in others else None
    return FORMATS[name].suffix


def format_for(source: Source, name: str) -> OutputFormat:
    """The format that a source is written in; BMP has no room for metadata, and becomes PNG.

    Raises:
        OptionsConflict: as :func:`find_format`.
    """
    if name == SAME and isinstance(source, Raster):
        return find_format("png" if source.kind == "bmp" else source.kind)
    return find_format(name)


def refuse(source: Source, name: str, order: Order) -> None:
    """Ask, before any work, what the writer would ask.

    Raises:
        PhotoError: the photo cannot be written in this format, with the reason.
    """
    format = format_for(source, name)
    if max(source.header.width, source.header.height) > format.largest_side:
        raise PhotoError(f"cannot be written as {format.title}: more than {format.largest_side} pixels a side")
    format.refuse(source, order)


def encode(pixels: Pixels, source: Source, name: str, order: Order) -> bytes:
    """Encode a restored picture, with all of the source's metadata that the container can carry.

    Args:
        pixels: uint8 (H, W, 3) or (H, W), of the source's size, orientation as stored.
        source: the photo that was restored.
        name: of the format, see :data:`NAMES`.
        order: note, quality and the rest.

    Raises:
        PhotoError: as :func:`refuse`, or the encoder gave up.
        ValueError: pixels of another size, or a note that could not be found again.
    """
    check_picture(pixels, source, order.note)
    refuse(source, name, order)
    if order.refresh_thumbnail and isinstance(source, JpegPhoto):
        source = with_fresh_thumbnail(source, pixels)
    format = format_for(source, name)
    if format.lossless or (format is WEBP and is_lossless(source)):
        order = replace(order, note=with_digest(order.note, pixels))
    return format.encode(pixels, source, order)
