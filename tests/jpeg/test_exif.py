"""EXIF is read inside its own block, whatever it claims, and edited without moving a value."""

from __future__ import annotations

import resource
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codiff_batch.jpeg import JpegPhoto, Segment
from codiff_batch.jpeg.exif import EMPTY, Exif, Field, with_fields
from tests.jpeg.samples import exif_block, jpeg, with_segments

MAKER_NOTE = b"MAKER\0" + bytes(range(200))


def block(**changes: object) -> bytes:
    return exif_block({0x0110: "A camera", 0x0112: 6}, {0x9003: "2020:01:02 03:04:05", 0x927C: MAKER_NOTE}, **changes)


def test_values_are_found_in_every_directory() -> None:
    exif = Exif.read(block())
    assert exif is not None
    assert (exif.number("0th", 0x0112), exif.text("0th", 0x0110)) == (6, "A camera")
    assert exif.text("Exif", 0x9003) == "2020:01:02 03:04:05"
    assert exif.value("Exif", 0x927C) == MAKER_NOTE


@pytest.mark.parametrize("count", [0xFFFFFFFF, 50_000_000, 70_000])
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 7, 12])
def test_a_count_beyond_the_block_costs_nothing_and_is_no_value(kind: int, count: int) -> None:
    directory = struct.pack("<H", 2) + struct.pack("<HHII", 0xC621, kind, count, 8)
    directory += struct.pack("<HHII", 0x0112, 3, 1, 6) + bytes(4)
    data = with_segments(jpeg(), Segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + directory))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert JpegPhoto.from_bytes(data).metadata().orientation == 6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_directories_that_point_at_each_other_end() -> None:
    loop = b"II*\0\x08\0\0\0" + struct.pack("<H", 3)
    loop += b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in (0x8769, 0x8825, 0xA005)) + struct.pack("<I", 8)
    assert Exif.read(loop) is not None


@given(st.binary(max_size=80))
def test_damage_is_no_value_and_never_an_error(noise: bytes) -> None:
    for damaged in (noise, EMPTY[:8] + noise, block()[: 8 + len(noise)] + noise):
        exif = Exif.read(damaged)
        if exif is not None:
            exif.thumbnail(), exif.text("0th", 0x0110), exif.number("0th", 0x0112), exif.ratio("0th", 0x011A)
            assert Exif.read(exif.without(lambda *_: False)) is not None


def test_fields_that_go_leave_every_other_value_where_it_was() -> None:
    whole = block()
    left = Exif.read(Exif.read(whole).without(lambda directory, entry: entry.tag in (0x0112, 0x9003)))  # type: ignore[union-attr]
    assert left is not None and len(left.block) == len(whole)
    assert left.find("0th", 0x0112) is None and left.find("Exif", 0x9003) is None
    assert left.text("0th", 0x0110) == "A camera"
    assert left.block.index(MAKER_NOTE) == whole.index(MAKER_NOTE)


@pytest.mark.parametrize("start", [EMPTY, block()])
def test_fields_that_come_are_read_by_others_and_move_nothing(start: bytes) -> None:
    longer = with_fields(start, [Field(0x010E, 2, 9, b"A caption"), Field(0x0128, 3, 1, b"\2\0")])
    assert longer[8 : len(start)] == start[8:]
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + longer)
    assert (tags[0x010E], tags[0x0128]) == ("A caption", 2)
    assert tags.get(0x0112) == (6 if start is not EMPTY else None)
    assert tags.get_ifd(0x8769).get(0x927C) == (MAKER_NOTE if start is not EMPTY else None)
