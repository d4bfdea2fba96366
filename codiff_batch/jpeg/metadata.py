"""What metadata a file carries. Only for reading; nothing here decides what is copied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from codiff_batch.jpeg import exif as fields
from codiff_batch.jpeg import markers, xmp
from codiff_batch.jpeg.exif import Exif
from codiff_batch.jpeg.note import OWN_NOTE, own_note
from codiff_batch.jpeg.segments import Segment, Structure

EXIF = b"Exif\0\0"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
ICC = b"ICC_PROFILE\0"
MPF = b"MPF\0"
PHOTOSHOP = b"Photoshop 3.0\0"
IPTC_RESOURCE = b"8BIM\x04\x04"
JFIF = b"JFIF\0"

_MAX_TEXT = 500
"""Characters of a value that is shown."""


@dataclass(frozen=True)
class MetadataSummary:
    """What is there, for reports and ``codiff-batch inspect``; all texts are printable."""

    orientation: int | None
    """EXIF Orientation 1..8; None where absent or unreadable."""
    has_gps: bool
    taken: str | None
    """EXIF DateTimeOriginal as written."""
    camera: str | None
    icc: str | None
    """The profile's description; empty where it has none."""
    exif: bool
    xmp: bool
    iptc: bool
    photoshop: bool
    mpf: bool
    c2pa: bool
    """Signed: a C2PA manifest is in the file, or its XMP says where one is."""
    jfif: bool
    comments: int
    trailer_bytes: int
    restored_by: str | None
    """This program's own latest note, if the picture is still the one that it was written for."""

    def kinds(self) -> list[str]:
        """Short names of what is there, for display."""
        named = {
            "EXIF": self.exif,
            "GPS": self.has_gps,
            f"orientation {self.orientation}": self.orientation not in (None, 1),
            f"ICC ({self.icc})" if self.icc else "ICC": self.icc is not None,
            "XMP": self.xmp,
            "IPTC": self.iptc,
            "Photoshop": self.photoshop,
            "MPF": self.mpf,
            "C2PA": self.c2pa,
            "comment": self.comments > 0,
            "trailer": self.trailer_bytes > 0,
        }
        return [name for name, present in named.items() if present]


def summarize(structure: Structure) -> MetadataSummary:
    """Summarize the metadata segments; values that cannot be read count as absent."""
    block = exif_bytes(structure)
    exif = Exif.read(block)
    orientation = exif.number("0th", fields.ORIENTATION) if exif else None
    photoshop = photoshop_bytes(structure)
    note = own_note(structure)
    return MetadataSummary(
        orientation=orientation if orientation in range(1, 9) else None,
        has_gps=bool(exif and "GPS" in exif.directories and exif.directories["GPS"].entries),
        taken=_printable(exif.text("Exif", fields.TAKEN)) if exif else None,
        camera=_printable(exif.text("0th", fields.MODEL)) if exif else None,
        icc=_profile_name(icc_bytes(structure)),
        exif=block is not None,
        xmp=xmp_bytes(structure) is not None,
        iptc=IPTC_RESOURCE in photoshop,
        photoshop=bool(photoshop),
        mpf=bool(payloads(structure, markers.APP2, MPF)),
        c2pa=is_signed(structure),
        jfif=bool(payloads(structure, markers.APP0, JFIF)),
        comments=len(comments(structure)),
        trailer_bytes=len(structure.trailer),
        restored_by=_printable(note),
    )


def payloads(structure: Structure, marker: int, signature: bytes) -> list[bytes]:
    """Payloads of the segments of one kind, signature cut off, in file order."""
    return [
        s.payload[len(signature) :]
        for s in structure.segments
        if s.marker == marker and s.payload.startswith(signature)
    ]


def comments(structure: Structure) -> list[bytes]:
    """Comments other than this program's own."""
    texts = [s.payload for s in structure.segments if s.marker == markers.COM]
    return [text for text in texts if not text.startswith(OWN_NOTE)]


def exif_bytes(structure: Structure) -> bytes | None:
    """The TIFF block of the first EXIF segment, without its ``Exif`` header."""
    return next(iter(payloads(structure, markers.APP1, EXIF)), None)


def xmp_bytes(structure: Structure) -> bytes | None:
    """The standard XMP packet, in any APP segment."""
    return next((s.payload[len(XMP) :] for s in xmp_segments(structure)), None)


def xmp_segments(structure: Structure) -> Iterator[Segment]:
    """Segments with a standard XMP packet. APP1 is their place; some programs use another."""
    found = [s for s in structure.metadata if s.marker != markers.COM and s.payload.startswith(XMP)]
    yield from sorted(found, key=lambda segment: segment.marker != markers.APP1)


def extended_xmp_segments(structure: Structure) -> tuple[Segment, ...]:
    """The segments of the extended packet that the standard one names.

    Behind its signature each has the packet's digest, its whole length and this part's offset (XMP part 3, 1.1.3.1).
    """
    packet = xmp_bytes(structure)
    named = re.search(r"HasExtendedXMP\W+([0-9A-Fa-f]{32})", xmp.decode(packet)) if packet else None
    if named is None:
        return ()
    start, digest = len(EXTENDED_XMP), named[1].upper().encode()
    parts = [s for s in structure.segments if s.marker == markers.APP1 and s.payload.startswith(EXTENDED_XMP)]
    return tuple(s for s in parts if s.payload[start : start + 32].upper() == digest)


def extended_xmp_bytes(structure: Structure) -> bytes | None:
    """That extended packet, assembled; None if there is none, or parts are missing."""
    parts = [s.payload[len(EXTENDED_XMP) + 32 :] for s in extended_xmp_segments(structure)]
    by_offset = {int.from_bytes(part[4:8], "big"): part[8:] for part in parts}
    whole = b"".join(by_offset[offset] for offset in sorted(by_offset))
    return whole if parts and len(whole) == int.from_bytes(parts[0][:4], "big") else None


def icc_bytes(structure: Structure) -> bytes | None:
    """The ICC profile, joined from its numbered parts (ICC.1, B.4); None where absent or incomplete."""
    parts = {p[0]: p[2:] for p in payloads(structure, markers.APP2, ICC) if len(p) > 2}
    if not parts or sorted(parts) != list(range(1, len(parts) + 1)):
        return None
    return b"".join(parts[number] for number in sorted(parts))


def has_xyb_colours(structure: Structure) -> bool:
    """Return True if the samples are XYB, which only the profile tells; they look like RGB (libjxl, jpegli)."""
    profile = icc_bytes(structure) or b""
    return b"XYB" in profile or "XYB".encode("utf-16-be") in profile


def photoshop_bytes(structure: Structure) -> bytes:
    """Photoshop's image resources, IPTC among them, joined from their segments."""
    return b"".join(payloads(structure, markers.APP13, PHOTOSHOP))


def is_signed(structure: Structure) -> bool:
    """Return True if a C2PA manifest vouches for the file's bytes, inside it or by its address in the XMP."""
    packets = [s.payload[len(XMP) :] for s in xmp_segments(structure)]
    packets += filter(None, [extended_xmp_bytes(structure)])
    return bool(c2pa_segments(structure)) or any(map(xmp.names_a_manifest, packets))


def c2pa_segments(structure: Structure) -> tuple[Segment, ...]:
    """The segments of C2PA manifest stores: JUMBF boxes in APP11 (C2PA 2.1, A.3.2; ISO 19566-5, D.2).

    A box may be spread over several segments; they share the box instance number in bytes 2 and 3.
    """
    boxes = [s for s in structure.segments if s.marker == markers.APP11 and s.payload.startswith(b"JP")]
    instances = {s.payload[2:4] for s in boxes if b"c2pa" in s.payload}
    return tuple(s for s in boxes if s.payload[2:4] in instances)


def _printable(text: str | None) -> str | None:
    """The text on one printable line; a value from a file must not be able to forge lines."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)[:_MAX_TEXT].strip() if text is not None else None


def _profile_name(profile: bytes | None) -> str | None:
    if profile is None:
        return None
    from PIL import ImageCms

    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError):
        return ""
    return _printable(name)
