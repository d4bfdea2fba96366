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
"""Suffixes, in any case, of the files taken from folders, by kind; files named directly are always taken."""

TYPES_HELP = "File types to restore: jpeg; also png, bmp, tiff and lossless webp, for pictures that once were JPEGs."
"""Help text for options that offer the choice."""


def kind_of(data: bytes) -> str | None:
    """The kind of a file that is not a JPEG, by its first bytes; None for all others."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"BM"):
        return "bmp"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "tiff"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return None
