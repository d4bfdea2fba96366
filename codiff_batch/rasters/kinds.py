"""Which kinds of files are sources, by name and by content. Nothing is decoded here."""

from __future__ import annotations

from types import MappingProxyType

SUFFIXES = MappingProxyType(
    {
        "jpeg": frozenset({".jpg", ".jpeg", ".jpe", ".jfif"}),
        "png": frozenset({".png"}),
        "bmp": frozenset({".bmp", ".dib"}),
        "tiff": frozenset({".tif", ".tiff"}),
        "webp": frozenset({".webp"}),
    }
)
"""File names that are taken from folders, whatever their case, by kind; files named one by one are always taken."""

TYPES_HELP = "Kinds of files to take: jpeg, and pictures that were JPEGs once: png, bmp, tiff, webp (lossless)."
"""For whoever offers the choice."""


def kind_of(data: bytes) -> str | None:
    """The kind of a file that is no JPEG, by its first bytes; None for all others."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"BM"):
        return "bmp"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "tiff"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return None
