"""Output formats, and what they have in common. A new format is a new file in ``containers``.

``docs/metadata.md`` says what each container carries, in a table that the tests write. Importing this package does
not import numpy, since the command line needs the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from codiff_batch.errors import OptionsConflict, PhotoError
from codiff_batch.formats import containers
from codiff_batch.formats.output import Order, OutputFormat, Pixels

if TYPE_CHECKING:
    from codiff_batch.rasters.source import Source

SAME = "same"
"""The source's own format."""

NAMES = (SAME, *sorted(module.name for module in iter_modules(containers.__path__)))
"""What ``--format`` takes."""

__all__ = ["NAMES", "SAME", "Order", "OutputFormat", "encode", "find_format", "formats", "refuse", "suffix_of"]


@cache
def formats() -> Mapping[str, OutputFormat]:
    """Return all formats by name, including those that this machine cannot write."""
    return {name: getattr(import_module(f"{containers.__name__}.{name}"), name.upper()) for name in NAMES[1:]}


def find_format(name: str) -> OutputFormat:
    """Return a format by its name; ``same`` is JPEG if nothing is known about the source.

    Raises:
        OptionsConflict: there is none of that name, or this machine cannot write it.
    """
    try:
        format = formats()["jpeg" if name == SAME else name]
    except KeyError:
        raise OptionsConflict(f"no output format is called {name}; there are {', '.join(NAMES)}") from None
    format.check()
    return format


def suffix_of(name: str, source: str = "") -> str | None:
    """The suffix of outputs in a format; None if they keep the source's name.

    Args:
        name: of the format.
        source: the source's suffix.
    """
    from codiff_batch.rasters.kinds import SUFFIXES

    if name == SAME:
        return formats()["png"].suffix if source.lower() in SUFFIXES["bmp"] else None
    if name == "jpeg":
        others = frozenset().union(*(suffixes for kind, suffixes in SUFFIXES.items() if kind != "jpeg"))
        return formats()["jpeg"].suffix if source.lower() in others else None
    return formats()[name].suffix


def format_for(source: Source, name: str) -> OutputFormat:
    """The format that a source is written in; BMP has no room for metadata and becomes PNG.

    Raises:
        OptionsConflict: as :func:`find_format`.
    """
    from codiff_batch.rasters.raster import Raster

    if name == SAME and isinstance(source, Raster):
        return find_format("png" if source.kind == "bmp" else source.kind)
    return find_format(name)


def refuse(source: Source, name: str, order: Order) -> None:
    """Check, before any work, what the writer would check.

    Raises:
        PhotoError: the photo cannot be written in this format, with the reason.
    """
    format = format_for(source, name)
    if max(source.header.width, source.header.height) > format.largest_side:
        raise PhotoError(f"cannot be written as {format.title}: more than {format.largest_side} pixels on a side")
    format.refuse(source, order)


def encode(pixels: Pixels, source: Source, name: str, order: Order) -> bytes:
    """Encode a restored picture, with all of the source's metadata that the container can carry.

    Args:
        pixels: uint8 (H, W, 3) or (H, W), of the source's size, orientation as stored.
        source: the photo that was restored.
        name: of the format, see :data:`NAMES`.
        order: note, quality and the rest.

    Raises:
        PhotoError: as :func:`refuse`, or the encoder failed.
        ValueError: pixels of another size, or a note that could not be found again.
    """
    from codiff_batch.formats.containers.webp import is_lossless
    from codiff_batch.jpeg import JpegPhoto
    from codiff_batch.jpeg.encode import check_picture
    from codiff_batch.rasters.note import with_digest

    check_picture(pixels, source, order.note)
    refuse(source, name, order)
    if order.refresh_thumbnail and isinstance(source, JpegPhoto):
        from codiff_batch.jpeg.thumbnail import with_fresh_thumbnail

        source = with_fresh_thumbnail(source, pixels)
    format = format_for(source, name)
    if format.lossless or (format.name == "webp" and is_lossless(source)):
        order = replace(order, note=with_digest(order.note, pixels))
    return format.encode(pixels, source, order)
