"""What metadata a file carries. Reading only; nothing here decides what is copied."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

from codiff_batch.jpeg import markers
from codiff_batch.jpeg.segments import Segment, Structure

EXIF = b"Exif\0\0"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
ICC = b"ICC_PROFILE\0"
MPF = b"MPF\0"
PHOTOSHOP = b"Photoshop 3.0\0"
IPTC_RESOURCE = b"8BIM\x04\x04"
JFIF = b"JFIF\0"

OWN_NOTE = b"codiff-batch "
"""Start of the comment that marks this program's own output."""


@dataclass(frozen=True)
class MetadataSummary:
    """What is there, for reports and ``codiff-batch inspect``."""

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
    jfif: bool
    comments: int
    trailer_bytes: int
    restored_by: str | None
    """This program's own latest note, if it wrote the file."""

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
    """Look through the metadata segments; values that cannot be read count as absent."""
    exif = exif_bytes(structure)
    tags = read_exif(exif) if exif else {}
    zeroth, details = tags.get("0th", {}), tags.get("Exif", {})
    orientation = zeroth.get(0x0112)
    comments = [s.payload for s in structure.segments if s.marker == markers.COM]
    own = [c for c in comments if c.startswith(OWN_NOTE)]
    photoshop = b"".join(payloads(structure, markers.APP13, PHOTOSHOP))
    return MetadataSummary(
        orientation=orientation if orientation in range(1, 9) else None,
        has_gps=bool(tags.get("GPS")),
        taken=_text(details.get(0x9003)),
        camera=_text(zeroth.get(0x0110)),
        icc=_profile_name(icc_bytes(structure)),
        exif=exif is not None,
        xmp=bool(payloads(structure, markers.APP1, XMP)),
        iptc=IPTC_RESOURCE in photoshop,
        photoshop=bool(photoshop),
        mpf=bool(payloads(structure, markers.APP2, MPF)),
        c2pa=bool(c2pa_segments(structure)),
        jfif=bool(payloads(structure, markers.APP0, JFIF)),
        comments=len(comments) - len(own),
        trailer_bytes=len(structure.trailer),
        restored_by=own[-1].decode("utf-8", "replace") if own else None,
    )


def payloads(structure: Structure, marker: int, signature: bytes) -> list[bytes]:
    """Payloads of the segments of one kind, signature cut off, in file order."""
    return [
        s.payload[len(signature) :]
        for s in structure.segments
        if s.marker == marker and s.payload.startswith(signature)
    ]


def exif_bytes(structure: Structure) -> bytes | None:
    """The TIFF block of the first EXIF segment, without its ``Exif`` header."""
    return next(iter(payloads(structure, markers.APP1, EXIF)), None)


def xmp_bytes(structure: Structure) -> bytes | None:
    """The standard XMP packet."""
    return next(iter(payloads(structure, markers.APP1, XMP)), None)


def icc_bytes(structure: Structure) -> bytes | None:
    """The ICC profile, joined from its numbered parts (ICC.1, B.4); None where absent or incomplete."""
    parts = {p[0]: p[2:] for p in payloads(structure, markers.APP2, ICC) if len(p) > 2}
    if not parts or sorted(parts) != list(range(1, len(parts) + 1)):
        return None
    return b"".join(parts[number] for number in sorted(parts))


def c2pa_segments(structure: Structure) -> tuple[Segment, ...]:
    """The segments of C2PA manifest stores: JUMBF boxes in APP11 (C2PA 2.1, A.3.2; ISO 19566-5, D.2).

    A box may be spread over several segments; they share the box instance number in bytes 2 and 3.
    """
    boxes = [s for s in structure.segments if s.marker == markers.APP11 and s.payload.startswith(b"JP")]
    instances = {s.payload[2:4] for s in boxes if b"c2pa" in s.payload}
    return tuple(s for s in boxes if s.payload[2:4] in instances)


def read_exif(tiff: bytes) -> dict[str, Any]:
    """EXIF as piexif's dictionary of IFDs; empty where piexif cannot read it."""
    import piexif

    try:
        tags: dict[str, Any] = piexif.load(EXIF + tiff)
    except Exception:
        # piexif raises whatever the damage provokes (struct.error, KeyError, ValueError, MemoryError ...), and
        # an EXIF block that it cannot read is still carried over byte for byte.
        return {}
    return tags


def _text(value: object) -> str | None:
    if not isinstance(value, bytes):
        return None
    return value.decode("utf-8", "replace").strip("\0 ") or None


def _profile_name(profile: bytes | None) -> str | None:
    if profile is None:
        return None
    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError):
        return ""
