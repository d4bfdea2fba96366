"""ICC profiles that agree with the pixels of a container (ICC.1:2022).

A gray photo often carries an RGB profile, and the other way round; in a container that supports only one kind of
pixels, the profile has to be of that kind. Both kinds describe gray by the same curve, so the curve is moved and no
pixel changes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_HEADER, _ENTRY = 128, 12
_SPACE, _CONNECTION = slice(16, 20), slice(20, 24)
_MAX_TAGS = 100

# sRGB's primaries, adapted to D50, as s15Fixed16 XYZ (IEC 61966-2-1; ICC's sRGB profiles).
_COLORANTS = {
    b"rXYZ": (0.43607, 0.22249, 0.01392),
    b"gXYZ": (0.38515, 0.71687, 0.09708),
    b"bXYZ": (0.14307, 0.06061, 0.7141),
}
_KEPT = (b"desc", b"cprt", b"wtpt", b"bkpt", b"chad")


def fitting(profile: bytes | None, *, gray: bool) -> bytes | None:
    """The profile for pixels of one kind: unchanged, with its curve moved, or None if that is impossible.

    Args:
        profile: as the source carries it.
        gray: whether the container's pixels are gray; else they are RGB.
    """
    if profile is None or len(profile) < _HEADER:
        return None
    space = profile[_SPACE]
    if space == (b"GRAY" if gray else b"RGB "):
        return profile
    tags = _tags(profile)
    if profile[_CONNECTION] != b"XYZ ":
        return None
    kept = {name: tags[name] for name in _KEPT if name in tags}
    if gray and space == b"RGB ":
        curves = {tags.get(name) for name in (b"rTRC", b"gTRC", b"bTRC")}
        curve = curves.pop()
        return _profile(profile, b"GRAY", {**kept, b"kTRC": curve}) if curve and not curves else None
    if not gray and space == b"GRAY" and (curve := tags.get(b"kTRC")):
        colour = {name: _xyz(*values) for name, values in _COLORANTS.items()}
        same = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
        return _profile(profile, b"RGB ", {**kept, **colour, **same})
    return None


def _tags(profile: bytes) -> Mapping[bytes, bytes]:
    """Tags by signature; those that are not inside the profile are ignored."""
    count = int.from_bytes(profile[_HEADER : _HEADER + 4], "big")
    found = {}
    for at in range(_HEADER + 4, _HEADER + 4 + _ENTRY * min(count, _MAX_TAGS), _ENTRY):
        if at + _ENTRY <= len(profile):
            name, start, size = struct.unpack_from(">4sII", profile, at)
            if _HEADER <= start <= start + size <= len(profile):
                found[name] = profile[start : start + size]
    return found


def _profile(like: bytes, space: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """Put a profile together, with another one's header; equal tags are stored once."""
    start = _HEADER + 4 + _ENTRY * len(tags)
    places: dict[bytes, int] = {}
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        if data not in places:
            places[data] = start + len(body)
            body += data + b"\0" * (-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    header = bytearray(like[:_HEADER])
    header[0:4] = struct.pack(">I", start + len(body))
    header[_SPACE] = space
    header[84:100] = bytes(16)  # The profile's own digest, which no longer matches; zero means none.
    return bytes(header) + table + body


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))
