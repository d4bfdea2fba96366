"""Output formats: what is asked of them, whichever it is. A new format is a new file in ``containers``.

``docs/metadata.md`` says what each container carries, in a table that the tests write. Importing this package imports
no numpy, since the command line asks for the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from codiff_batch.errors import OptionsConflict, PhotoError
from codiff_batch.formats import containers
from codiff_batch.formats.output import Order, OutputFormat, Pixels

if TYPE_CHECKING:
    from codiff_batch.jpeg import JpegPhoto

SAME = "same"
"""The source's own format."""

NAMES = (SAME, *sorted(module.name for module in iter_modules(containers.__path__)))
"""What ``--format`` takes."""

__all__ = ["NAMES", "SAME", "Order", "OutputFormat", "encode", "find_format", "formats", "refuse", "suffix_of"]


@cache
def formats() -> Mapping[str, OutputFormat]:
    """Return all formats by name, those that this machine cannot write among them."""
    return {name: getattr(import_module(f"{containers.__name__}.{name}"), name.upper()) for name in NAMES[1:]}


def find_format(name: str) -> OutputFormat:
    """Return a format by its name; ``same`` is JPEG, since all photos that are read today are JPEGs.

    Raises:
        OptionsConflict: there is none of that name, or this machine cannot write it.
    """
    try:
        format = formats()["jpeg" if name == SAME else name]
    except KeyError:
        raise OptionsConflict(f"no output format is called {name}; there are {', '.join(NAMES)}") from None
    format.check()
    return format


def suffix_of(name: str) -> str | None:
    """Return the suffix of outputs in a format; None where they keep the source's name."""
    return None if name in (SAME, "jpeg") else formats()[name].suffix


def refuse(source: JpegPhoto, name: str, order: Order) -> None:
    """Ask, before any work, what the writer would ask.

    Raises:
        PhotoError: the photo cannot be written in this format, with the reason.
    """
    format = find_format(name)
    if max(source.header.width, source.header.height) > format.largest_side:
        raise PhotoError(f"cannot be written as {format.title}: more than {format.largest_side} pixels on a side")
    format.refuse(source, order)


def encode(pixels: Pixels, source: JpegPhoto, name: str, order: Order) -> bytes:
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
    from codiff_batch.jpeg.encode import check_picture

    check_picture(pixels, source, order.note)
    refuse(source, name, order)
    if order.refresh_thumbnail:
        from codiff_batch.jpeg.thumbnail import with_fresh_thumbnail

        source = with_fresh_thumbnail(source, pixels)
    return find_format(name).encode(pixels, source, order)
