"""EXIF is read inside its own block, whatever it claims, and edited without moving a value."""

from __future__ import annotations

import resource
import struct

import pytest
from hypothesis import given, settings
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


def made(order: str, *fields: tuple[int, int, int, bytes], following: int = 0, more: bytes = b"") -> bytes:
    """A block with one directory (tag, type, count, value or offset), and bytes behind it."""
    entries = b"".join(struct.pack(order + "HHI", *field[:3]) + field[3].ljust(4, b"\0") for field in fields)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    return head + struct.pack(order + "H", len(fields)) + entries + struct.pack(order + "I", following) + more


@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_every_kind_are_read_in_both_byte_orders(order: str) -> None:
    for kind, form in ((1, "B"), (3, "H"), (4, "I"), (13, "I")):
        exif = Exif.read(made(order, (0x0112, kind, 1, struct.pack(order + form, 6))))
        assert exif is not None and exif.number("0th", 0x0112) == 6
    for kind, count, value in ((2, 2, b"6"), (99, 1, b"6"), (3, 0, b"")):
        exif = Exif.read(made(order, (0x0112, kind, count, value)))
        assert exif is not None and exif.number("0th", 0x0112) is None


@pytest.mark.parametrize(("above", "below", "ratio"), [(300, 2, 150.0), (0, 2, None), (300, 0, None)])
def test_a_ratio_is_a_positive_number_or_none(above: int, below: int, ratio: float | None) -> None:
    value = struct.pack("<II", above, below)
    for kind, count, expected in ((5, 1, ratio), (4, 2, None), (5, 0, None)):
        exif = Exif.read(made("<", (0x011A, kind, count, struct.pack("<I", 26)), more=value))
        assert exif is not None and exif.ratio("0th", 0x011A) == expected


def test_a_text_ends_at_its_first_zero_and_an_empty_one_is_none() -> None:
    for value, text in ((b"a\0b", "a"), (b" \0", None), (b"\0", None), (b"\xff", "\ufffd")):
        exif = Exif.read(made("<", (0x0110, 2, len(value), value)))
        assert exif is not None and exif.text("0th", 0x0110) == text


SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}


def test_values_are_as_long_as_their_type_says() -> None:
    for kind in range(256):
        exif = Exif.read(made("<", (0x0110, kind, 10, struct.pack("<I", 26)), more=bytes(80)))
        assert exif is not None
        assert exif.value("0th", 0x0110) == (bytes(10 * SIZES[kind]) if kind in SIZES else None)


def test_a_value_may_end_where_the_block_does_and_no_later() -> None:
    for size, value in ((6, b"a text"), (7, None)):
        exif = Exif.read(made("<", (0x0110, 2, size, struct.pack("<I", 26)), more=b"a text"))
        assert exif is not None and exif.value("0th", 0x0110) == value


@pytest.mark.parametrize(("length", "place"), [(0, None), (4, (56, 4)), (5, None)])
def test_a_thumbnail_lies_inside_the_block(length: int, place: tuple[int, int] | None) -> None:
    fields = [(0x0201, 4, 1, struct.pack("<I", 56)), (0x0202, 4, 1, struct.pack("<I", length))]
    exif = Exif.read(made("<", following=26, more=bytes(12) + made("<", *fields)[8:] + b"jpeg"))
    assert exif is not None and exif.thumbnail() == place


@pytest.mark.parametrize("length", [0, 3, 7, 9])
def test_a_block_without_a_whole_directory_is_none(length: int) -> None:
    assert Exif.read(EMPTY[:length]) is None
    assert Exif.read(b"II*\0" + struct.pack("<I", 2) + EMPTY[8:]) is None
    with pytest.raises(ValueError, match="not an EXIF block"):
        with_fields(EMPTY[:length], [])


@pytest.mark.parametrize("entries", [0, 1])
def test_an_empty_directory_of_a_place_is_none(entries: int) -> None:
    place = made("<", *entries * [(1, 2, 2, b"N")])[8:]
    data = made("<", (0x8825, 4, 1, struct.pack("<I", 26)), more=place)
    assert JpegPhoto.from_bytes(with_segments(jpeg(), Segment(0xE1, b"Exif\0\0" + data))).metadata().has_gps is bool(
        entries
    )


def test_a_directory_may_end_without_the_offset_of_a_next_one() -> None:
    whole = made("<", (0x0112, 3, 1, b"\6"))
    exif = Exif.read(whole[:-4])
    assert exif is not None and exif.number("0th", 0x0112) == 6
    assert Exif.read(whole[:-5]) is None
    assert Exif.read(EMPTY[:10]) is not None


def test_directories_that_point_at_each_other_end() -> None:
    loop = b"II*\0\x08\0\0\0" + struct.pack("<H", 3)
    loop += b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in (0x8769, 0x8825, 0xA005)) + struct.pack("<I", 8)
    assert Exif.read(loop) is not None


@pytest.mark.slow
@settings(derandomize=True, deadline=None, database=None)
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


def test_what_leads_nowhere_goes_with_the_fields() -> None:
    """Others would read whatever is there."""
    nowhere = struct.pack("<I", 5000)
    dangling = made("<", (0x0110, 2, 9, nowhere), (0x0112, 3, 1, b"\6"), (0x8769, 4, 1, nowhere))
    left = Exif.read(Exif.read(dangling).without(lambda *_: False))  # type: ignore[union-attr]
    assert left is not None and [entry.tag for entry in left.directories["0th"].entries] == [0x0112]
    whole = block(gps={1: "N"})
    left = Exif.read(Exif.read(whole).without(lambda directory, _: directory == "GPS"))  # type: ignore[union-attr]
    assert left is not None and left.directories.keys() == {"0th", "Exif"}
    assert left.find("0th", 0x8825) is None


@pytest.mark.parametrize("goes", [False, True])
def test_an_emptied_directory_of_a_thumbnail_follows_no_longer(goes: bool) -> None:
    second = made("<", (0x0103, 3, 1, b"\6"), following=7)[8:]
    whole = made("<", (0x0112, 3, 1, b"\6"), following=26, more=second)
    left = Exif.read(Exif.read(whole).without(lambda directory, _: goes and directory == "1st"))  # type: ignore[union-attr]
    assert left is not None and left.directories["0th"].following == (0 if goes else 26)
    assert goes or left.directories["1st"].following == 7


def test_of_equal_fields_the_new_one_counts_and_a_thumbnail_follows_if_asked() -> None:
    whole = made("<", (0x0112, 3, 1, b"\6"), following=26, more=made("<", (0x0103, 3, 1, b"\6"))[8:])
    for keeps in (True, False):
        longer = Exif.read(with_fields(whole, [Field(0x0112, 3, 1, b"\1\0")], keep_following=keeps))
        assert longer is not None and longer.number("0th", 0x0112) == 1
        assert len(longer.directories["0th"].entries) == 1
        assert ("1st" in longer.directories) is keeps


def test_new_values_and_directories_start_at_even_bytes() -> None:
    odd = made("<", more=b"odd")
    for values in ([b"short"], [b"four"], [b"short", b"longer"]):
        fields = [Field(0x010E + number, 2, len(value), value) for number, value in enumerate(values)]
        longer = Exif.read(with_fields(odd, reversed(fields)))
        assert longer is not None and longer.directories["0th"].at % 2 == 0
        entries = longer.directories["0th"].entries
        assert [entry.tag for entry in entries] == [field.tag for field in fields]
        assert [longer.value("0th", field.tag) for field in fields] == values
        assert all(entry.start % 2 == 0 for entry in entries)


@pytest.mark.parametrize("start", [EMPTY, block()])
def test_fields_that_come_are_read_by_others_and_move_nothing(start: bytes) -> None:
    longer = with_fields(start, [Field(0x010E, 2, 9, b"A caption"), Field(0x0128, 3, 1, b"\2\0")])
    assert longer[8 : len(start)] == start[8:]
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + longer)
    assert (tags[0x010E], tags[0x0128]) == ("A caption", 2)
    assert tags.get(0x0112) == (6 if start is not EMPTY else None)
    assert tags.get_ifd(0x8769).get(0x927C) == (MAKER_NOTE if start is not EMPTY else None)
