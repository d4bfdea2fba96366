"""Splits a JPEG file into its marker segments, and puts it together again (ITU-T T.81, Annex B)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from codiff_batch.errors import DamagedJpeg, NotJpeg
from codiff_batch.jpeg.markers import APP0, APP14, APPS, COM, EOI, SOI, SOS, STANDALONE

# Restart markers and TEM mean nothing between segments; decoders skip them there.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

MAX_SEGMENTS = 20_000
"""No camera comes near this; a file with more is made to waste memory."""

MAX_SCANS = 500
"""Progressive photos have about ten; each scan of a large picture costs a pass over all its coefficients."""


@dataclass(frozen=True)
class Segment:
    """One marker with what belongs to it."""

    marker: int
    """The byte after 0xFF."""
    payload: bytes = b""
    """Parameters, without marker and length."""
    lead: bytes = b""
    """Bytes between the previous segment and this marker: fill bytes, or garbage that decoders skip."""
    scan: bytes = b""
    """After SOS: the entropy-coded data, restart markers and byte stuffing included."""

    def emit(self) -> bytes:
        """The segment's bytes as in the file."""
        head = self.lead + bytes((0xFF, self.marker))
        if self.marker in STANDALONE:
            return head
        return head + (len(self.payload) + 2).to_bytes(2, "big") + self.payload + self.scan

    @property
    def is_metadata(self) -> bool:
        """Return True if it is about the picture rather than about its coding, as Adobe's segment is."""
        return self.marker == COM or (self.marker in APPS and not self.is_adobe)

    @property
    def is_adobe(self) -> bool:
        """Adobe's APP14, which says how colours are coded; others put metadata there too."""
        return self.marker == APP14 and self.payload.startswith(b"Adobe")

    @property
    def is_jfif(self) -> bool:
        """Metadata (density), but also a promise that three components are YCbCr."""
        return self.marker == APP0 and self.payload.startswith(b"JFIF\0")


@dataclass(frozen=True)
class Structure:
    """A whole file: segments from SOI to EOI, then whatever follows."""

    segments: tuple[Segment, ...]
    trailer: bytes
    """Bytes after EOI: second pictures, gain maps, video, maker's notes."""

    def emit(self) -> bytes:
        """The file's bytes; equal to those that were parsed."""
        return b"".join([*(segment.emit() for segment in self.segments), self.trailer])

    def emit_coded_image(self) -> bytes:
        """A file that decodes to the same pixels, without metadata, garbage and trailer."""
        kept = (Segment(s.marker, s.payload, b"", s.scan) for s in self.segments if s.is_jfif or not s.is_metadata)
        return b"".join(segment.emit() for segment in kept)

    @property
    def metadata(self) -> tuple[Segment, ...]:
        """APPn and COM segments in file order, Adobe's left out."""
        return tuple(segment for segment in self.segments if segment.is_metadata)

    @property
    def scan_bytes(self) -> int:
        """Size of the entropy-coded data of all scans."""
        return sum(len(segment.scan) for segment in self.segments)


def parse(data: bytes) -> Structure:
    """Walk the marker segments of a file.

    EOI is found by walking the scans; thumbnails and second pictures hold their own 0xFFD9. Garbage between
    segments is kept in :attr:`Segment.lead`, because libjpeg decodes such files.

    Raises:
        NotJpeg: the bytes do not start with SOI and another marker.
        DamagedJpeg: a segment or the file ends early, a length is impossible, or there are far too many segments.
    """
    if not data:
        raise NotJpeg("the file is empty")
    if data[:2] != b"\xff\xd8":
        raise NotJpeg(f"not a JPEG file{_other_format(data)}")
    segments = [Segment(SOI)]
    position, scans = 2, 0
    while True:
        found = _NEXT_MARKER.search(data, position)
        if found is None:
            raise DamagedJpeg("the file ends without an end-of-image marker; it is truncated")
        segment, position = _read_segment(data, position, found.start())
        if segment.marker == SOI:
            raise DamagedJpeg("a second image starts before the first one ends")
        segments.append(segment)
        scans += segment.marker == SOS
        if len(segments) > MAX_SEGMENTS or scans > MAX_SCANS:
            raise DamagedJpeg("the file has far too many segments or scans")
        if segment.marker == EOI:
            return Structure(tuple(segments), data[position:])


def _read_segment(data: bytes, lead_start: int, start: int) -> tuple[Segment, int]:
    """Read the segment whose 0xFF is at ``start``; returns it and the position behind it."""
    marker, lead = data[start + 1], data[lead_start:start]
    if marker in STANDALONE:
        return Segment(marker, lead=lead), start + 2
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    end = start + 2 + length
    if length < 2 or end > len(data):
        raise DamagedJpeg(f"segment 0xFF{marker:02X} at byte {start} does not fit the file; it is damaged or truncated")
    payload = data[start + 4 : end]
    if marker != SOS:
        return Segment(marker, payload, lead), end
    scan_end = _END_OF_SCAN.search(data, end)
    if scan_end is None:
        raise DamagedJpeg("the image data ends early; the file is truncated")
    return Segment(marker, payload, lead, data[end : scan_end.start()]), scan_end.start()


def _other_format(data: bytes) -> str:
    """Name the format of a mislabelled file, for the message."""
    kinds = {
        b"\x89PNG": "PNG",
        b"GIF8": "GIF",
        b"BM": "BMP",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"%PDF": "PDF",
        b"\0\0\0\x0cjP": "JPEG 2000",
        b"\xff\x0a": "JPEG XL",
        b"<": "HTML or XML",
    }
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ", it is WebP"
    if data[4:8] == b"ftyp":
        return ", it is HEIC, AVIF or video"
    return next((f", it is {name}" for magic, name in kinds.items() if data.startswith(magic)), "")
