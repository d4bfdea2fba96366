"""The chunks of a PNG that are copied into its restored picture: all that do not describe how pixels are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_SIGNATURE = 8
_KEPT = frozenset({b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI", b"pHYs", b"tIME", b"eXIf"})
"""About colours and meaning, though decoders must not copy them blindly; any chunk that says it is safe to copy goes
too (PNG, third edition, 5.4 and 11.3)."""
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_OWN = (b"Software\0codiff-batch ", b"Processing Software\0codiff-batch ")


class _Chunk(NamedTuple):
    name: bytes
    content: bytes
    whole: bytes


def with_chunks_of(picture: bytes, source: bytes) -> bytes:
    """A picture with another one's ancillary chunks, before and after the pixels as in the source.

    Args:
        picture: a PNG of the same size and colour type; only its pixels and texts are used.
        source: the PNG whose metadata are kept.
    """
    mine = list(_chunks(picture))
    before: list[bytes] = []
    behind: list[bytes] = []
    seen = False
    for chunk in _chunks(source):
        seen |= chunk.name == b"IDAT"
        if _travels(chunk):
            (behind if seen else before).append(chunk.whole)
    header, *rest = mine
    texts = [chunk.whole for chunk in rest if chunk.name == b"tEXt"]
    pixels = [chunk.whole for chunk in rest if chunk.name == b"IDAT"]
    return b"".join((picture[:_SIGNATURE], header.whole, *before, *texts, *pixels, *behind, mine[-1].whole))


def has_text(source: bytes, keyword: bytes) -> bool:
    """Whether a PNG has a text of this keyword, other than this program's own."""
    return any(_travels(chunk) and chunk.content.startswith(keyword + b"\0") for chunk in _chunks(source))


def _travels(chunk: _Chunk) -> bool:
    ancillary, safe = chunk.name[:1].islower(), chunk.name[3:].islower()
    is_own = chunk.name == b"tEXt" and chunk.content.startswith(_OWN)
    return ancillary and not is_own and chunk.name not in _ANIMATION and (chunk.name in _KEPT or safe)


def _chunks(png: bytes) -> Iterator[_Chunk]:
    at = _SIGNATURE
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if end > len(png):
            return
        yield _Chunk(png[at + 4 : at + 8], png[at + 8 : end - 4], png[at:end])
        at = end
