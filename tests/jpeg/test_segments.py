"""The segment walker: the same bytes back, only our errors, and the right end of the image."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiff_batch.errors import DamagedJpeg, NotJpeg, PhotoError
from codiff_batch.jpeg import Segment
from codiff_batch.jpeg.segments import parse
from tests.jpeg.samples import adobe, jpeg, picture, with_segments

SAMPLE = jpeg(picture(24, 24), progressive=True)
steady = settings(derandomize=True, deadline=1000, max_examples=400, database=None)

_payload = st.binary(max_size=12)
_length = st.integers(0, 20).map(lambda n: n.to_bytes(2, "big"))
_piece = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"\xff", b"\xff\x00", b"\xff\xff", b"\xff\xd0", b"\xff\xd8", b"\xff\xd9", b"\xff\xda"]),
    st.tuples(st.integers(0, 255).map(lambda m: bytes((0xFF, m))), _length, _payload).map(b"".join),
)


def assert_walks(data: bytes) -> None:
    """Either our error, or a structure that gives the very bytes back."""
    try:
        structure = parse(data)
    except PhotoError:
        return
    assert structure.emit() == data


@pytest.mark.slow
@steady
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_given_back(data: bytes) -> None:
    assert_walks(data)


@pytest.mark.slow
@steady
@given(st.lists(_piece, max_size=25).map(b"".join))
def test_any_soup_of_markers_is_refused_or_given_back(soup: bytes) -> None:
    assert_walks(b"\xff\xd8" + soup)
    assert_walks(b"\xff\xd8" + soup + b"\xff\xd9")


@pytest.mark.slow
@steady
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=8))
def test_a_file_with_flipped_bytes_is_refused_or_given_back(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for position, value in changes:
        data[position] = value
    assert_walks(bytes(data))


def test_every_file_of_the_corpus_is_refused_or_given_back(corpus: list[Path]) -> None:
    for path in corpus:
        assert_walks(path.read_bytes())


def test_a_file_cut_anywhere_is_refused() -> None:
    for length in range(len(SAMPLE)):
        with pytest.raises(PhotoError):
            parse(SAMPLE[:length])


def test_the_image_ends_at_its_own_end_marker_not_at_that_of_a_thumbnail() -> None:
    data = with_segments(SAMPLE, Segment(0xE1, b"Exif\0\0" + jpeg(picture(8, 8))), trailer=b"more\xff\xd9")
    structure = parse(data)
    assert structure.trailer == b"more\xff\xd9"
    assert structure.emit() == data


def test_restart_markers_and_stuffed_bytes_belong_to_the_scan() -> None:
    data = jpeg(restart_marker_blocks=1)
    (scan,) = (s.scan for s in parse(data).segments if s.marker == 0xDA)
    assert b"\xff\xd0" in scan
    assert b"\xff\x00" in jpeg(quality=100)
    assert parse(jpeg(quality=100)).emit() == jpeg(quality=100)


def test_garbage_and_fill_bytes_between_segments_are_kept() -> None:
    data = with_segments(SAMPLE, Segment(0xFE, b"remark", lead=b"junk\xff\x00"), Segment(0xFE, b"", lead=b"\xff\xff"))
    structure = parse(data)
    assert structure.emit() == data
    assert [s.payload for s in structure.metadata][1:] == [b"remark", b""]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n", "it is PNG$"),
        (b"GIF89a", "it is GIF$"),
        (b"BM\0\0", "it is BMP$"),
        (b"II*\0", "it is TIFF$"),
        (b"MM\0*", "it is TIFF$"),
        (b"%PDF-1.4", "it is PDF$"),
        (b"\0\0\0\x0cjP  ", "it is JPEG 2000$"),
        (b"\xff\x0a", "it is JPEG XL$"),
        (b"<!doctype html>", "it is HTML or XML$"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "it is WebP$"),
        (b"\0\0\0\x18ftypheic", "it is HEIC, AVIF or video$"),
        (b"RIFF\0\0\0\0WAVE", "not a JPEG file$"),
        (b"    \0\0\0\0WEBP", "not a JPEG file$"),
        (b"hello", "not a JPEG file$"),
    ],
)
def test_other_formats_are_named_in_one_line(data: bytes, words: str) -> None:
    with pytest.raises(NotJpeg, match=words) as refusal:
        parse(data)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("marker", "most"), [(0xFE, 20_000 - 2), (0xDA, 500)])
def test_a_file_that_is_made_to_waste_memory_or_time_is_refused(marker: int, most: int) -> None:
    piece = Segment(marker).emit()
    assert len(parse(b"\xff\xd8" + most * piece + b"\xff\xd9").segments) == most + 2
    with pytest.raises(DamagedJpeg, match="too many"):
        parse(b"\xff\xd8" + (most + 1) * piece + b"\xff\xd9")


def test_a_length_that_does_not_fit_the_file_or_itself_is_damage() -> None:
    assert parse(b"\xff\xd8\xff\xfe\0\2\xff\xd9").metadata == (Segment(0xFE),)
    for data in (b"\xff\xd8\xff\xfe\0\1\xff\xd9", b"\xff\xd8\xff\xfe\0\5\xff\xd9"):
        with pytest.raises(DamagedJpeg, match="segment 0xFFFE at byte 2 does not fit"):
            parse(data)


def test_a_second_image_before_the_first_one_ends_is_damage() -> None:
    with pytest.raises(DamagedJpeg, match="second image"):
        parse(SAMPLE[:-2] + SAMPLE)


def test_the_coded_image_alone_has_no_metadata_garbage_and_trailer() -> None:
    more = (Segment(0xE1, b"Exif\0\0", lead=b"junk"), Segment(0xFE, b"remark", lead=b"\xff"), adobe(1))
    coded = parse(with_segments(SAMPLE, *more, trailer=b"more")).emit_coded_image()
    assert coded == with_segments(SAMPLE, adobe(1))


def test_metadata_is_every_app_segment_and_comment_but_adobe_s() -> None:
    added = [Segment(marker, bytes([marker])) for marker in (*range(0xE0, 0xF0), 0xFE)] + [Segment(0xED, b"Adobe_CM")]
    others = (Segment(0xDF, b"expand"), Segment(0xF0, b"JPG0"))
    carried = [s.marker for s in islice(parse(with_segments(SAMPLE, *added, *others, adobe(1))).metadata, 1, None)]
    assert carried == [s.marker for s in added]
