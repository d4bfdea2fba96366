"""A thumbnail is made again in the old one's place, or stays."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codiff_batch.jpeg import JpegPhoto, Segment
from codiff_batch.jpeg.exif import Exif, Field, with_fields
from codiff_batch.jpeg.metadata import exif_bytes
from codiff_batch.jpeg.thumbnail import with_fresh_thumbnail
from tests.jpeg.samples import exif_block, jpeg, picture, with_segments
from tests.photos import write
from tests.tiny_model import make_tiny_model

MAKER_NOTE = b"MAKER\0" + bytes(range(200))


def block(thumbnail: bytes, *, start: int | None = None, before: bytes | None = None, kind: int = 4) -> bytes:
    """EXIF with a thumbnail, behind all the rest or at a given offset; its length may be a SHORT (3) or a LONG (4)."""
    plain = before or exif_block({0x0110: "A camera", 0x0112: 6}, {0x927C: MAKER_NOTE})
    exif = Exif.read(plain)
    assert exif is not None
    first = exif.directories["0th"]
    at = len(plain) + len(plain) % 2
    place = at + 2 + 2 * 12 + 4 if start is None else start
    fields = struct.pack("<HHIIHHII", 0x0201, 4, 1, place, 0x0202, kind, 1, len(thumbnail))
    whole = bytearray(plain.ljust(at, b"\0") + struct.pack("<H", 2) + fields + bytes(4) + thumbnail)
    struct.pack_into("<I", whole, first.at + 2 + 12 * len(first.entries), at)
    return bytes(whole)


def photo(exif: bytes) -> JpegPhoto:
    return JpegPhoto.from_bytes(with_segments(jpeg(picture()), Segment(0xE1, b"Exif\0\0" + exif)))


def thumbnail_of(photo: JpegPhoto) -> Image.Image:
    exif = Exif.read(exif_bytes(photo.structure))
    assert exif is not None
    place = exif.thumbnail()
    assert place is not None
    image = Image.open(io.BytesIO(exif.block[place[0] : sum(place)]))
    image.load()
    return image


def old(width: int = 52, height: int = 36, **options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return jpeg(noise, **{"quality": 90, **options})


def test_it_shows_the_new_picture_and_nothing_else_moves() -> None:
    source, bright = photo(block(old())), np.full((72, 104, 3), 250, np.uint8)
    fresh = with_fresh_thumbnail(source, bright)
    assert thumbnail_of(fresh).size == (52, 36)
    assert np.asarray(thumbnail_of(fresh)).mean() > 240
    before, after = (Exif.read(exif_bytes(p.structure)) for p in (source, fresh))
    assert before is not None
    assert after is not None
    assert len(after.block) == len(before.block)
    start, length = before.thumbnail() or (0, 0)
    assert after.block[:start].replace(after.directories["1st"].entries[1].raw, b"") == before.block[:start].replace(
        before.directories["1st"].entries[1].raw, b""
    )
    assert after.block[start + length :] == before.block[start + length :]
    assert after.value("Exif", 0x927C) == MAKER_NOTE
    others = [[s.emit() for s in p.structure.segments if s.marker != 0xE1] for p in (source, fresh)]
    assert others[0] == others[1]


def test_bars_beside_the_old_thumbnail_stay_bars() -> None:
    wide = with_fresh_thumbnail(photo(block(old(80, 60))), np.full((72, 144, 3), 250, np.uint8))
    pixels = np.asarray(thumbnail_of(wide)).mean(axis=2)
    assert pixels.shape == (60, 80)
    assert pixels[:6].mean() < 10
    assert pixels[30].mean() > 240


@pytest.mark.parametrize("shape", [(80, 80), (60, 80), (80, 60)])
@pytest.mark.parametrize("size", [(80, 60), (60, 80), (60, 60)])
def test_only_one_that_was_held_the_other_way_is_left(shape: tuple[int, int], size: tuple[int, int]) -> None:
    source = photo(block(old(*size)))
    fresh = with_fresh_thumbnail(source, np.full((*shape, 3), 250, np.uint8))
    turned = 60 in shape and 80 in shape and size == shape
    assert (fresh is source) is turned
    assert thumbnail_of(fresh).size == size


def test_values_may_lie_behind_it() -> None:
    source = photo(with_fields(block(old()), [Field(0x010E, 2, 9, b"A caption")]))
    assert with_fresh_thumbnail(source, picture()) is not source


def test_a_large_one_is_no_thumbnail() -> None:
    for width, fits in ((640, True), (641, False)):
        source = photo(block(jpeg(np.zeros((480, width, 3), np.uint8))))
        assert (with_fresh_thumbnail(source, np.zeros((48, 64, 3), np.uint8)) is not source) is fits


@pytest.mark.parametrize("kind", [3, 4])
def test_its_length_is_put_right_and_other_segments_of_its_kind_stay(kind: int) -> None:
    packet = Segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")
    source = JpegPhoto.from_bytes(with_segments(jpeg(), packet, Segment(0xE1, b"Exif\0\0" + block(old(), kind=kind))))
    fresh = with_fresh_thumbnail(source, picture())
    assert fresh is not source
    assert packet in fresh.structure.segments
    exif = Exif.read(exif_bytes(fresh.structure))
    assert exif is not None
    start, length = exif.thumbnail() or (0, 0)
    assert exif.block[start + length - 2 : start + length] == b"\xff\xd9"
    assert not exif.block[start + length :].strip(b"\0")


@pytest.mark.parametrize(
    "exif",
    [
        exif_block({0x0110: "A camera"}),
        block(b"\xff\xd8 not a picture"),
        block(old(36, 52)),
        block(old(8, 6, quality=1)[:200]),
        block(old(), start=30),
    ],
    ids=["none", "no picture", "turned", "cut off", "over other values"],
)
def test_where_it_cannot_be_done_safely_the_old_one_stays(exif: bytes) -> None:
    source = photo(exif)
    assert with_fresh_thumbnail(source, picture()) is source


def test_one_that_lies_inside_a_makers_note_is_left() -> None:
    """Other programs read those bytes as the maker's."""
    noted = exif_block({0x0110: "A camera"}, {0x927C: b"MAKER\0" + old()})
    pointing = block(old(), before=noted, start=noted.index(old()))
    assert thumbnail_of(photo(pointing)).size == (52, 36)
    assert with_fresh_thumbnail(source := photo(pointing), picture()) is source


def test_one_that_does_not_fit_into_the_old_ones_bytes_is_left() -> None:
    source = photo(block(old(160, 110, quality=1)[:700]))
    assert (
        with_fresh_thumbnail(source, np.random.default_rng(1).integers(0, 255, (72, 104, 3)).astype(np.uint8)) is source
    )


@pytest.mark.slow
@pytest.mark.parametrize("format", ["same", "png", "webp", "avif"])
def test_it_is_asked_for_and_travels_into_every_container(run, tmp_path: Path, format: str) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    path = write(tmp_path / "in/a.jpg", photo(block(old())).data)
    for name, asked in (("plain", []), ("fresh", ["--refresh-thumbnail"])):
        assert run(path, "-o", tmp_path / name, "--format", format, "--model", model, *asked).code == 0
    seen = []
    for name in ("plain", "fresh"):
        with Image.open(next((tmp_path / name).glob("a.*"))) as image:
            exif = Exif.read(image.info["exif"].removeprefix(b"Exif\0\0"))
        assert exif is not None
        start, length = exif.thumbnail() or (0, 0)
        seen.append(np.asarray(Image.open(io.BytesIO(exif.block[start : start + length]))).astype(int))
    assert np.array_equal(seen[0], np.asarray(Image.open(io.BytesIO(old()))))
    assert np.abs(seen[1] - seen[0]).mean() > 20
