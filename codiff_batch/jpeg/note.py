"""The program's own note in its outputs: what restored the picture, and a digest that identifies the picture."""

from __future__ import annotations

import hashlib
import re

from codiff_batch.jpeg import markers
from codiff_batch.jpeg.segments import Segment, Structure

OWN_NOTE = b"codiff-batch "
"""Start of the comment that marks this program's own output."""

_DIGEST = re.compile(rb" picture=([0-9a-f]{16})$")
_EARLY = re.compile(rb"codiff-batch 0\.1\.\d+ ")
"""Versions whose notes had no digest."""


def marked(note: str, coded: Structure) -> Segment:
    """The comment that marks an output as done.

    Args:
        note: one line that starts with ``codiff-batch``.
        coded: the output's coded picture.
    """
    return Segment(markers.COM, f"{note} picture={_digest(coded)}".encode())


def own_note(structure: Structure) -> str | None:
    """The latest note of this program, if the picture is still the one that it was written for.

    Editors keep comments, so a note may be in a file that was saved again since, at any quality. The metadata may have
    changed, the coded picture must not. Notes of the first versions have no digest: they count together with the
    tables, sampling and coding that those versions wrote by default.
    """
    notes = [s.payload for s in structure.segments if s.marker == markers.COM and s.payload.startswith(OWN_NOTE)]
    for note in reversed(notes):
        named = _DIGEST.search(note)
        if named[1].decode() == _digest(structure) if named else _EARLY.match(note) and _looks_early(structure):
            return note.decode("utf-8", "replace")
    return None


def _digest(structure: Structure) -> str:
    """Digest of all that decoding depends on."""
    coded = hashlib.sha256()
    for segment in structure.segments:
        if not segment.is_metadata:
            coded.update(bytes((segment.marker,)) + segment.payload + segment.scan)
    return coded.hexdigest()[:16]


def _looks_early(structure: Structure) -> bool:
    from codiff_batch.jpeg.header import read_header

    header = read_header(structure)
    return header.process == "baseline" and header.sampling in ("4:4:4", "gray") and header.qf == 95
