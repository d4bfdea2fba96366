"""The index of a Multi-Picture file (CIPA DC-007): where further pictures are after the first one.

Stereo pairs, phone depth maps and Ultra HDR gain maps are found by it. Its offsets count from inside the
segment itself, so it must be corrected when the first picture changes its size.
"""

from __future__ import annotations

import struct

from codiff_batch.errors import UnsupportedJpeg
from codiff_batch.jpeg import markers
from codiff_batch.jpeg.metadata import MPF
from codiff_batch.jpeg.segments import Segment

_ENTRIES_TAG = 0xB002
_ENTRY_SIZE = 16
_SIZE_AT, _OFFSET_AT = 4, 8


def is_index(segment: Segment) -> bool:
    """Return True if a segment is the index."""
    return segment.marker == markers.APP2 and segment.payload.startswith(MPF)


def rewrite_index(payload: bytes, *, old: tuple[int, int], new: tuple[int, int]) -> bytes:
    """Correct an index after the first picture changed its size.

    Args:
        payload: of the APP2 segment, its signature included; its length does not change.
        old: (position of the payload in the file, position behind the first picture's EOI) in the source.
        new: the same two positions in the output.

    Raises:
        UnsupportedJpeg: the index cannot be understood, or points to somewhere other than after the first picture.
    """
    old_base, new_base = old[0] + len(MPF), new[0] + len(MPF)
    shift = (new[1] - new_base) - (old[1] - old_base)
    changed = bytearray(payload)
    try:
        order, entries = _find_entries(payload)
        for number, entry in enumerate(entries):
            (offset,) = struct.unpack_from(order + "I", payload, entry + _OFFSET_AT)
            if number == 0 and offset == 0:
                struct.pack_into(order + "I", changed, entry + _SIZE_AT, new[1])
            elif old_base + offset >= old[1]:
                struct.pack_into(order + "I", changed, entry + _OFFSET_AT, offset + shift)
            else:
                raise ValueError
    except (struct.error, ValueError) as error:
        raise UnsupportedJpeg("its multi-picture index cannot be carried over safely") from error
    return bytes(changed)


def _find_entries(payload: bytes) -> tuple[str, list[int]]:
    """Byte order, and positions of the 16-byte MP entries in the payload."""
    base = len(MPF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(payload[base : base + 4])
    if order is None:
        raise ValueError
    (ifd,) = struct.unpack_from(order + "I", payload, base + 4)
    (count,) = struct.unpack_from(order + "H", payload, base + ifd)
    for field in range(count):
        tag, _, size, start = struct.unpack_from(order + "HHII", payload, base + ifd + 2 + 12 * field)
        if tag == _ENTRIES_TAG:
            if base + start + size > len(payload):
                raise ValueError
            return order, [base + start + number * _ENTRY_SIZE for number in range(size // _ENTRY_SIZE)]
    return order, []  # The header of a second picture only has attributes, and nothing that could move.
