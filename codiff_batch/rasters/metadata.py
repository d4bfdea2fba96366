"""A picture's metadata as the segments of a JPEG, so that the code for JPEGs can read and carry it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from codiff_batch.jpeg import exif, markers
from codiff_batch.jpeg.exif import Exif
from codiff_batch.jpeg.metadata import EXIF, ICC, JFIF, PHOTOSHOP, XMP
from codiff_batch.jpeg.note import OWN_NOTE
from codiff_batch.jpeg.segments import Segment, Structure

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_ICC_PART = 65519
"""Bytes of a profile in one segment (ICC.1, B.4)."""
_XMP_TAG, _PHOTOSHOP_TAG, _IPTC_TAG = 700, 34377, 33723
_MAX_CHUNKS = 1000
_COMMENTS = ("Title", "Description", "Author", "Copyright", "Comment", "Disclaimer", "Warning", "Source")
"""Texts of a PNG that people write (PNG, 11.3.3.2)."""


def as_segments(image: ImageFile, kind: str) -> Structure:
    """The metadata of a picture that was opened and not decoded."""
    return Structure(tuple(_segments(image, kind)), b"")


def latest_note(image: ImageFile, kind: str) -> str | None:
    """This program's note, if the file has one."""
    texts = [str(text) for text in getattr(image, "text", {}).values()] if kind == "png" else []
    if (block := Exif.read(_exif(image, kind))) is not None:
        texts += [block.text("0th", tag) or "" for tag in (exif.PROCESSING_SOFTWARE, exif.SOFTWARE)]
    return next((text for text in texts if text.startswith(OWN_NOTE.decode())), None)


def _segments(image: ImageFile, kind: str) -> Iterator[Segment]:
    info = image.info
    if density := info.get("dpi"):
        across, down = (min(65535, max(1, round(float(value)))) for value in density)
        yield Segment(markers.APP0, JFIF + struct.pack(">HBHHBB", 0x0102, 1, across, down, 0, 0))
    if block := _exif(image, kind):
        yield Segment(markers.APP1, EXIF + block)
    if packet := _bytes(info.get("xmp") or _tag(image, kind, _XMP_TAG)):
        yield Segment(markers.APP1, XMP + packet)
    if profile := _bytes(info.get("icc_profile")):
        parts = [profile[at : at + _ICC_PART] for at in range(0, len(profile), _ICC_PART)]
        if len(parts) < 256:
            for number, part in enumerate(parts, 1):
                yield Segment(markers.APP2, ICC + bytes((number, len(parts))) + part)
    if resources := _photoshop(image, kind):
        yield Segment(markers.APP13, PHOTOSHOP + resources)
    for name, content in getattr(image, "private_chunks", ())[:_MAX_CHUNKS]:
        if name == b"caBX":  # C2PA's manifest (C2PA 2.1, A.3.3)
            yield Segment(markers.APP11, b"JP\0\1" + b"c2pa" + content)
    for name, text in getattr(image, "text", {}).items() if kind == "png" else ():
        if name in _COMMENTS and not str(text).startswith(OWN_NOTE.decode()):
            yield Segment(markers.COM, str(text).encode())


def _exif(image: ImageFile, kind: str) -> bytes | None:
    """The EXIF block; a TIFF file *is* one with a picture in it, so its tags become a block without the picture."""
    if kind == "tiff":
        return image.getexif().tobytes().removeprefix(EXIF)
    block = image.info.get("exif")
    return block.removeprefix(EXIF) if isinstance(block, bytes) else None


def _photoshop(image: ImageFile, kind: str) -> bytes:
    if kind == "png":
        return _raw_profile(image)
    if resources := _bytes(_tag(image, kind, _PHOTOSHOP_TAG)):
        return resources
    records = _bytes(_tag(image, kind, _IPTC_TAG))
    if not records:
        return b""
    return b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records + b"\0" * (len(records) % 2)


def _raw_profile(image: ImageFile) -> bytes:
    """ImageMagick's way to keep Photoshop's resources in a PNG: their length and hexadecimal digits in a text."""
    text = getattr(image, "text", {}).get("Raw profile type iptc", "")
    try:
        return bytes.fromhex("".join(str(text).split()[2:]))
    except ValueError:
        return b""


def _tag(image: ImageFile, kind: str, tag: int) -> Any:
    return image.tag_v2.get(tag) if kind == "tiff" else None  # type: ignore[attr-defined]


def _bytes(value: Any) -> bytes:
    """A field's bytes, however Pillow read it."""
    if isinstance(value, tuple) and value and all(isinstance(one, int) and 0 <= one < 256 for one in value):
        return bytes(value)
    return value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else b""
