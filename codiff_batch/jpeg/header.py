"""What the headers say about a picture before anything is decoded (ITU-T T.81, B.2.2)."""

from __future__ import annotations

from dataclasses import dataclass

from codiff_batch.errors import DamagedJpeg, UnsupportedJpeg
from codiff_batch.jpeg import markers
from codiff_batch.jpeg.quantization import Table, fit_quality, read_tables
from codiff_batch.jpeg.segments import Structure

_SAMPLING_NAMES: dict[tuple[tuple[int, int], ...], str] = {
    ((1, 1), (1, 1), (1, 1)): "4:4:4",
    ((2, 1), (1, 1), (1, 1)): "4:2:2",
    ((2, 2), (1, 1), (1, 1)): "4:2:0",
    ((1, 2), (1, 1), (1, 1)): "4:4:0",
    ((4, 1), (1, 1), (1, 1)): "4:1:1",
    ((4, 2), (1, 1), (1, 1)): "4:1:0",
}

_UNSENT = 16
"""More bits than a coefficient has."""

_JFIF_LENGTH, _ADOBE_LENGTH = 14, 12
"""libjpeg ignores shorter segments (``APP0_DATA_LEN``, ``APP14_DATA_LEN``)."""


@dataclass(frozen=True)
class Component:
    """One colour component of the frame."""

    identifier: int
    h: int
    """Horizontal sampling factor, 1..4."""
    v: int
    """Vertical sampling factor, 1..4."""
    table: int
    """Destination of its quantization table, 0..3."""


@dataclass(frozen=True)
class Header:
    """Geometry, coding and quality of a picture."""

    width: int
    height: int
    components: tuple[Component, ...]
    process: str
    """``baseline``, ``extended``, ``progressive``, ``arithmetic`` or ``arithmetic progressive``."""
    colour: str
    """``gray``, ``ycbcr`` or ``rgb``: how the components are coded."""
    tables: tuple[Table, ...]
    """Quantization steps, one (8, 8) table per component, natural order (row = vertical frequency)."""
    restart_interval: int
    """MCUs between restart markers; 0 without."""
    qf: float
    """IJG quality factor 1..100 that fits the tables best."""
    qf_misfit: float
    """Mean relative deviation of the tables from that quality's; 0 if they are the IJG's own."""

    @property
    def sampling(self) -> str:
        """``4:2:0`` and the like, ``gray``, or the plain factors if they have no name."""
        if self.colour == "gray":
            return "gray"
        factors = tuple((c.h, c.v) for c in self.components)
        return _SAMPLING_NAMES.get(factors) or ",".join(f"{h}x{v}" for h, v in factors)

    @property
    def max_sampling(self) -> tuple[int, int]:
        """The largest (h, v) of all components; an MCU is that many 8x8 blocks."""
        return max(c.h for c in self.components), max(c.v for c in self.components)

    @property
    def blocks(self) -> int:
        """How many 8x8 blocks the image data has at least, over all components."""
        across, down = self.max_sampling
        return sum(-(-self.width * c.h // (8 * across)) * -(-self.height * c.v // (8 * down)) for c in self.components)


def read_header(structure: Structure) -> Header:
    """Read the frame, the tables and the colour coding.

    Raises:
        UnsupportedJpeg: CMYK, more than 8 bits, lossless, hierarchical, or a height that follows later (DNL).
        DamagedJpeg: a header is missing, doubled or contradicts itself, or scans of a progressive file are missing.
    """
    process, payload = _find_frame(structure)
    precision, height, width, count = payload[0], _u16(payload, 1), _u16(payload, 3), payload[5]
    if precision != 8:
        raise UnsupportedJpeg(f"{precision}-bit JPEG; only 8 bits per sample are handled")
    if count == 4:
        raise UnsupportedJpeg("CMYK or YCCK colours; only RGB and grayscale photos are handled")
    if count not in (1, 3):
        raise UnsupportedJpeg(f"{count} colour components; only RGB and grayscale photos are handled")
    if width == 0:
        raise DamagedJpeg("the header gives a width of zero")
    if height == 0:
        raise UnsupportedJpeg("the header leaves the height open (DNL marker), which is not handled")
    if len(payload) < 6 + 3 * count:
        raise DamagedJpeg("the frame header is cut short")
    components = tuple(_read_component(payload[6 + 3 * i : 9 + 3 * i]) for i in range(count))
    tables = _component_tables(structure, components)
    if "progressive" in process:
        _refuse_missing_scans(structure, components)
    qf, misfit = fit_quality(tables)
    interval = next((_u16(s.payload, 0) for s in structure.segments if s.marker == markers.DRI), 0)
    return Header(width, height, components, process, _colour(structure, components), tables, interval, qf, misfit)


def _find_frame(structure: Structure) -> tuple[str, bytes]:
    """The coding process and the payload of the only frame header."""
    frames = []
    for segment in structure.segments:
        if refused := markers.REFUSED_FRAMES.get(segment.marker):
            raise UnsupportedJpeg(f"{refused} JPEG; only baseline and progressive kinds are handled")
        if segment.marker in markers.FRAMES:
            frames.append((markers.FRAMES[segment.marker], segment.payload))
    if not frames or not any(s.marker == markers.SOS for s in structure.segments):
        raise DamagedJpeg("the file holds no image, only headers")
    if len(frames) > 1:
        raise DamagedJpeg("the file has more than one frame header")
    if len(frames[0][1]) < 6:
        raise DamagedJpeg("the frame header is cut short")
    return frames[0]


def _read_component(data: bytes) -> Component:
    component = Component(data[0], data[1] >> 4, data[1] & 15, data[2])
    if not (1 <= component.h <= 4 and 1 <= component.v <= 4 and component.table <= 3):
        raise DamagedJpeg("the frame header has impossible sampling factors")
    return component


def _component_tables(structure: Structure, components: tuple[Component, ...]) -> tuple[Table, ...]:
    """The table of each component: the one in force when its first scan begins (libjpeg, ``latch_quant_tables``)."""
    tables: dict[int, Table] = {}
    latched: dict[int, Table] = {}
    for segment in structure.segments:
        if segment.marker == markers.DQT:
            tables |= read_tables(segment.payload)
        elif segment.marker == markers.SOS:
            for component in components:
                in_scan = component.identifier in _selectors(segment.payload)
                if in_scan and component.identifier not in latched and component.table in tables:
                    latched[component.identifier] = tables[component.table]
    missing = [c for c in components if c.identifier not in latched]
    if missing:
        raise DamagedJpeg(f"quantization table {missing[0].table} is missing, or a colour has no image data")
    return tuple(latched[c.identifier] for c in components)


def _selectors(payload: bytes) -> bytes:
    """Which components are in a scan: every second byte of its header from the second on (T.81, B.2.3)."""
    return payload[1 : 1 + 2 * payload[0] : 2] if payload else b""


def _refuse_missing_scans(structure: Structure, components: tuple[Component, ...]) -> None:
    """Refuse a progressive file that does not contain all bits of all coefficients (T.81, G.1.1.1)."""
    missing_bits = {c.identifier: [_UNSENT] * 64 for c in components}
    for segment in structure.segments:
        selectors = _selectors(segment.payload) if segment.marker == markers.SOS else b""
        if selectors and len(segment.payload) >= 4 + 2 * len(selectors):
            first, last, bits = segment.payload[-3:]
            for identifier in selectors:
                if identifier in missing_bits and last <= 63:
                    for frequency in range(first, last + 1):
                        missing_bits[identifier][frequency] = bits & 15
    sent = sum(bits == 0 for component in missing_bits.values() for bits in component)
    if sent < 64 * len(components):
        share = 100 * sent // (64 * len(components))
        raise DamagedJpeg(f"scans are missing: only {share} % of its coefficients are complete")


def _colour(structure: Structure, components: tuple[Component, ...]) -> str:
    """The colour coding by libjpeg's rules, so that we agree with decoders.

    ``default_decompress_parms`` decides at the first scan: JFIF of at least 14 bytes takes precedence over Adobe's
    segment of at least 12, of which the last one counts; only then do the components' names matter.
    """
    if len(components) == 1:
        return "gray"
    transform = None
    for segment in structure.segments:
        if segment.marker == markers.SOS:
            break
        if segment.is_jfif and len(segment.payload) >= _JFIF_LENGTH:
            return "ycbcr"
        if segment.is_adobe and len(segment.payload) >= _ADOBE_LENGTH:
            transform = segment.payload[11]
    if transform is not None:
        return "rgb" if transform == 0 else "ycbcr"
    return "rgb" if bytes(c.identifier for c in components) == b"RGB" else "ycbcr"


def _u16(payload: bytes, offset: int) -> int:
    return int.from_bytes(payload[offset : offset + 2], "big")
