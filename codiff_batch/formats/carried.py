"""A JPEG's metadata in the form that other containers need.

The EXIF block is copied as it is, without the fields that describe the source's own container; XMP becomes one packet
in UTF-8 without pointers to what is not carried over; the profile is made to match the pixels. Metadata that a
container has no place for, such as a JFIF density or a comment in WebP, becomes an EXIF field if that field is free.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from codiff_batch.formats.profile import fitting
from codiff_batch.jpeg import exif, xmp
from codiff_batch.jpeg.exif import Entry, Exif, Field
from codiff_batch.jpeg.markers import APP0
from codiff_batch.jpeg.metadata import (
    JFIF,
    comments,
    exif_bytes,
    extended_xmp_bytes,
    icc_bytes,
    payloads,
    photoshop_bytes,
    xmp_bytes,
)
from codiff_batch.rasters.source import Source

XMP_TAG, IPTC_TAG, PHOTOSHOP_TAG, ICC_TAG = 0x02BC, 0x83BB, 0x8649, 0x8773

_STRUCTURAL = frozenset(
    {
        *(0x00FE, 0x00FF, 0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x0107, 0x0108, 0x0109, 0x010A),
        *(0x0111, 0x0115, 0x0116, 0x0117, 0x0118, 0x0119, 0x011C, 0x0120, 0x0121, 0x0122, 0x0123, 0x0124, 0x0125),
        *(0x013D, 0x0140, 0x0141, 0x0142, 0x0143, 0x0144, 0x0145, 0x0146, 0x0147, 0x0148, 0x014A, 0x014C, 0x014E),
        *(0x0150, 0x0152, 0x0153, 0x0154, 0x0155, 0x0156, 0x0157, 0x0158, 0x0159, 0x015A, 0x015B),
        *range(0x0200, 0x020A),
        *(0x0211, 0x0212, 0x0213, 0x0214),
        *(ICC_TAG, 0xC612, 0xC613),
    }
)
"""Fields of the first directory that say how the *source's* pixels are stored (TIFF 6.0; DNG's version), never how the
output's are."""

_NO_UNIT, _INCH, _CENTIMETRE = 1, 2, 3
_PER_METRE = {_INCH: 39.3700787, _CENTIMETRE: 100.0}


class Density(NamedTuple):
    """Pixels per unit, across and down."""

    x: int
    y: int
    unit: int
    """0 for the pixels' proportions only, else EXIF's numbers: 2 an inch, 3 a centimetre."""

    def per_metre(self) -> tuple[int, int]:
        """Pixels per metre; the plain proportions without a unit."""
        factor = _PER_METRE.get(self.unit, 1.0)
        return round(self.x * factor), round(self.y * factor)


@dataclass(frozen=True)
class Carried:
    """A source's metadata, ready for any container."""

    source: Source
    note: str
    gray: bool
    """Whether the container's pixels are gray."""

    @cached_property
    def exif(self) -> Exif:
        """The source's EXIF without structural fields; an empty block if it has none that can be read."""
        found = Exif.read(exif_bytes(self.source.structure)) or Exif.read(exif.EMPTY)
        assert found is not None
        own_xmp, own_iptc = bool(self.xmp), bool(self.photoshop)

        def unwanted(directory: str, entry: Entry) -> bool:
            doubled = (entry.tag == XMP_TAG and own_xmp) or (entry.tag in (IPTC_TAG, PHOTOSHOP_TAG) and own_iptc)
            return directory == "0th" and (entry.tag in _STRUCTURAL or doubled)

        cleaned = Exif.read(found.without(unwanted))
        assert cleaned is not None
        return cleaned

    @cached_property
    def exif_with_extras(self) -> Exif:
        """:attr:`exif` with the note, and with metadata that the container has no other place for."""
        fields = [self.note_field(), *self.density_fields(), *self.comment_field()]
        extended = Exif.read(exif.with_fields(self.exif.block, fields))
        assert extended is not None
        return extended

    @cached_property
    def icc(self) -> bytes | None:
        """The profile, converted to match the container's pixels."""
        return fitting(icc_bytes(self.source.structure), gray=self.gray)

    @cached_property
    def xmp(self) -> bytes:
        """One packet in UTF-8; empty where there is none."""
        packet = xmp_bytes(self.source.structure)
        return xmp.portable(packet, extended_xmp_bytes(self.source.structure)) if packet else b""

    @cached_property
    def photoshop(self) -> bytes:
        """Photoshop's image resources, IPTC among them."""
        return photoshop_bytes(self.source.structure)

    @cached_property
    def iptc(self) -> bytes:
        """The IPTC records among Photoshop's resources (Photoshop File Formats, "Image Resources")."""
        at, data = 0, self.photoshop
        while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
            name = (data[at + 6] + 2) // 2 * 2
            size = int.from_bytes(data[at + 6 + name : at + 10 + name], "big")
            start = at + 10 + name
            if data[at + 4 : at + 6] == b"\x04\x04":
                return data[start : start + size]
            at = start + size + size % 2
        return b""

    @cached_property
    def comments(self) -> list[str]:
        """The comments as text: UTF-8, or Windows-1252, a superset of Latin-1, where they are not that."""
        return [_text(comment) for comment in comments(self.source.structure)]

    @cached_property
    def density(self) -> Density | None:
        """JFIF's density, or EXIF's if JFIF gives no unit."""
        jfif = next((p for p in payloads(self.source.structure, APP0, JFIF) if len(p) >= 7), None)
        found = None
        if jfif is not None:
            unit, x, y = struct.unpack_from(">BHH", jfif, 2)
            found = Density(x, y, {1: _INCH, 2: _CENTIMETRE}.get(unit, 0)) if x and y else None
        if found is not None and found.unit:
            return found
        proportions = found if found is not None and found.x != found.y else None
        across, down = (self.exif.ratio("0th", tag) for tag in (exif.X_RESOLUTION, exif.Y_RESOLUTION))
        unit = self.exif.number("0th", exif.RESOLUTION_UNIT) or _INCH
        if across and down and unit in _PER_METRE and 1 <= across < 65536 and 1 <= down < 65536:
            return Density(round(across), round(down), unit)
        return proportions

    def note_field(self) -> Field:
        """The note, as the software that wrote the picture, or that processed it if another one is named."""
        text = self.note.encode() + b"\0"
        tag = exif.PROCESSING_SOFTWARE if self.exif.find("0th", exif.SOFTWARE) else exif.SOFTWARE
        return Field(tag, exif.ASCII, len(text), text)

    def density_fields(self) -> list[Field]:
        """JFIF's density as EXIF fields, unless EXIF has its own."""
        density, order = self.density, self.exif.order
        if density is None or self.exif.find("0th", exif.X_RESOLUTION):
            return []
        ratios = [
            Field(tag, exif.RATIONAL, 1, struct.pack(order + "II", value, 1))
            for tag, value in ((exif.X_RESOLUTION, density.x), (exif.Y_RESOLUTION, density.y))
        ]
        return [*ratios, Field(exif.RESOLUTION_UNIT, exif.SHORT, 1, struct.pack(order + "H", density.unit or _NO_UNIT))]

    def comment_field(self) -> list[Field]:
        """The comments as EXIF's description, unless there is one."""
        if not self.comments or self.exif.text("0th", exif.DESCRIPTION):
            return []
        text = "\n".join(self.comments).replace("\0", " ").encode() + b"\0"
        return [Field(exif.DESCRIPTION, exif.ASCII, len(text), text)]

    def upright(self) -> Carried:
        """The same for a container whose pixels are already rotated: Orientation becomes 1, in place."""
        carried = replace(self)
        entry = self.exif.find("0th", exif.ORIENTATION)
        if entry is not None and entry.size in (1, 2, 4):
            block = bytearray(self.exif.block)
            one = {1: "B", 2: "H", 4: "I"}[entry.size]
            struct.pack_into(self.exif.order + one, block, entry.start, 1)
            turned = Exif.read(bytes(block))
            assert turned is not None
            carried.__dict__["exif"] = turned
        return carried


def _text(comment: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return comment.decode(encoding).rstrip("\0")
        except UnicodeDecodeError:
            continue
    return comment.decode("latin-1").rstrip("\0")
