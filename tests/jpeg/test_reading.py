"""Header, quality factor, refusals and pixels, against Pillow and made-up files."""

from __future__ import annotations

import warnings
import weakref
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from codiff_batch.errors import DamagedJpeg, NotJpeg, PhotoError, TooManyBytes, TooManyPixels, UnsupportedJpeg
from codiff_batch.jpeg import DEFAULT_MAX_PIXELS, JpegPhoto, Segment, Structure
from codiff_batch.jpeg.metadata import XMP, icc_bytes, xmp_bytes
from codiff_batch.jpeg.pillow_pixels import PillowPixels
from codiff_batch.jpeg.quantization import expected_error, fit_quality, ijg_table, read_tables
from codiff_batch.jpeg.segments import parse
from tests.jpeg.samples import (
    CORPUS_LIMIT,
    adobe,
    decodable,
    exif_block,
    jpeg,
    multi_picture_index,
    picture,
    with_frame,
    with_segments,
)


def opened(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> JpegPhoto:
    return JpegPhoto.from_bytes(data, max_pixels=max_pixels)


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image)


@pytest.mark.parametrize(("subsampling", "name"), [(0, "4:4:4"), (1, "4:2:2"), (2, "4:2:0")])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_header_says_how_the_picture_is_coded(subsampling: int, name: str, progressive: bool) -> None:
    header = opened(jpeg(subsampling=subsampling, progressive=progressive)).header
    assert (header.width, header.height, header.sampling, header.colour) == (104, 72, name, "ycbcr")
    assert header.process == ("progressive" if progressive else "baseline")


def test_gray_photos_stay_gray() -> None:
    photo = opened(jpeg(picture(gray=True)))
    assert (photo.header.colour, photo.header.sampling) == ("gray", "gray")
    assert photo.pixels().shape == (72, 104)


def test_restart_interval_is_read() -> None:
    assert opened(jpeg()).header.restart_interval == 0
    assert opened(jpeg(restart_marker_blocks=3)).header.restart_interval == 3
    assert opened(jpeg(restart_marker_blocks=300)).header.restart_interval == 300


@pytest.mark.parametrize("quality", range(1, 101))
def test_the_quality_factor_of_ijg_tables_is_found_exactly(quality: int) -> None:
    header = opened(jpeg(picture(8, 8), quality=quality)).header
    assert (header.qf, header.qf_misfit) == (quality, 0)
    assert np.array_equal(header.tables[0], ijg_table(quality, chroma=False))
    assert np.array_equal(header.tables[1], ijg_table(quality, chroma=True))


def test_tables_of_another_maker_fit_less_well() -> None:
    flat = [np.full((8, 8), 12, np.uint16)] * 3
    quality, misfit = fit_quality(flat)
    assert 1 <= quality <= 100
    assert misfit > 0.1


ROBIDOUX = (
    *((16, 16, 16, 18, 25, 37, 56, 85), (16, 17, 20, 27, 34, 40, 53, 75), (16, 20, 24, 31, 43, 62, 91, 135)),
    *((18, 27, 31, 40, 53, 74, 106, 156), (25, 34, 43, 53, 69, 94, 131, 189), (37, 40, 62, 74, 94, 124, 169, 238)),
    *((56, 53, 91, 106, 131, 169, 226, 311), (85, 75, 135, 156, 189, 238, 311, 418)),
)
"""mozjpeg's default table, for luma and chroma."""


@pytest.mark.parametrize("scale", [3.0, 1.0, 0.7, 0.4, 0.16])
def test_the_quality_of_other_tables_is_that_of_equal_effect(scale: float) -> None:
    scene = picture(256, 256)
    scene = np.asarray(Image.fromarray(scene).resize((96, 96)).resize((256, 256), Image.Resampling.BICUBIC))
    scene = (scene + np.random.default_rng(0).normal(0, 3, scene.shape)).clip(0, 255).astype(np.uint8)
    table = (np.array(ROBIDOUX) * scale).round().clip(1, 255).astype(int).ravel().tolist()

    def error(**options: object) -> float:
        return float(np.mean((by_pillow(jpeg(scene, subsampling=0, **options)) - scene.astype(float)) ** 2))

    data = jpeg(scene, subsampling=0, qtables=[table, table])
    qf, misfit = fit_quality(opened(data).header.tables)
    assert misfit > 0.05
    ours, coarser, finer = (
        error(qtables=[table, table]),
        error(quality=max(1, round(qf) - 8)),
        error(quality=min(100, round(qf) + 8)),
    )
    assert finer < ours < coarser


def test_the_expected_error_falls_with_quality() -> None:
    errors = [expected_error([ijg_table(qf, chroma=False), *[ijg_table(qf, chroma=True)] * 2]) for qf in range(1, 101)]
    assert all(np.diff(errors) <= 0)
    assert errors[94] < 10 < errors[9]


@pytest.mark.parametrize(("precision", "kind"), [(0, "u1"), (1, ">u2")])
def test_tables_come_out_of_zigzag_order(precision: int, kind: str) -> None:
    table = read_tables(bytes([precision << 4 | 2]) + np.arange(1, 65).astype(kind).tobytes())[2]
    assert table[0, :4].tolist() == [1, 2, 6, 7]
    assert table[:4, 0].tolist() == [1, 3, 4, 10]
    assert table[7, 7] == 64


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", NotJpeg, "empty"),
        (with_frame(jpeg(), at=0, change=b"\x0c"), UnsupportedJpeg, "12-bit"),
        (with_frame(jpeg(), 0xC3), UnsupportedJpeg, "lossless"),
        (with_frame(jpeg(), at=1, change=b"\0\0"), UnsupportedJpeg, "DNL"),
        (with_frame(jpeg(), at=3, change=b"\0\0"), DamagedJpeg, "width"),
        (jpeg()[:-300], DamagedJpeg, "truncated"),
    ],
)
def test_what_cannot_be_handled_is_refused_with_its_reason(data: bytes, error: type[PhotoError], words: str) -> None:
    with pytest.raises(error, match=words) as refusal:
        opened(data)
    assert "\n" not in str(refusal.value)


KINDS = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC9: "arithmetic", 0xCA: "arithmetic progressive"}


@pytest.mark.parametrize(
    "marker", [*range(0xC0, 0xC4), *range(0xC5, 0xC8), 0xC9, 0xCA, 0xCB, *range(0xCD, 0xD0), 0xDE, 0xF7]
)
def test_every_kind_of_frame_is_known_by_its_marker(marker: int) -> None:
    data = with_frame(jpeg(progressive="progressive" in KINDS.get(marker, "")), marker)
    if marker in KINDS:
        assert opened(data).header.process == KINDS[marker]
    else:
        with pytest.raises(UnsupportedJpeg, match=r"lossless|hierarchical|JPEG-LS"):
            opened(data)


def frame(sampling: int = 0x11, table: int = 0, *, count: int = 1, components: int = 1) -> Segment:
    named = b"".join(bytes([1 + number, sampling, table]) for number in range(components))
    return Segment(0xC0, b"\x08\0\x10\0\x10" + bytes([count]) + named)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "no image, only headers"),
        ([frame(), frame()], "more than one frame header"),
        ([Segment(0xC0, frame().payload[:5])], "cut short"),
        ([Segment(0xC0, frame().payload[:8])], "cut short"),
        ([frame(count=2, components=2)], "2 colour components"),
        ([frame(count=4, components=4)], "CMYK"),
        ([frame(0x01)], "impossible sampling"),
        ([frame(0x51)], "impossible sampling"),
        ([frame(0x10)], "impossible sampling"),
        ([frame(0x15)], "impossible sampling"),
        ([frame(table=4)], "impossible sampling"),
        ([frame(table=1)], "quantization table 1 is missing"),
    ],
)
def test_a_frame_that_contradicts_itself_is_refused(frames: list[Segment], words: str) -> None:
    rest = [s for s in parse(jpeg(picture(16, 16, gray=True))).segments if s.marker != 0xC0]
    with pytest.raises((DamagedJpeg, UnsupportedJpeg), match=words):
        opened(Structure((*rest[:3], *frames, *rest[3:]), b"").emit())


@pytest.mark.parametrize("sampling", [0x11, 0x44])
def test_the_largest_sampling_and_the_last_table_are_taken(sampling: int) -> None:
    rest = [s for s in parse(jpeg(picture(16, 16, gray=True))).segments if s.marker not in (0xC0, 0xDB)]
    table = Segment(0xDB, b"\3" + bytes(range(1, 65)))
    header = opened(Structure((rest[0], table, frame(sampling, 3), *rest[1:]), b"").emit()).header
    assert header.tables[0][0, 1] == 2
    assert header.max_sampling == (sampling >> 4, sampling & 15)


def test_a_file_of_headers_alone_holds_no_image() -> None:
    headers = tuple(s for s in parse(jpeg()).segments if s.marker != 0xDA)
    with pytest.raises(DamagedJpeg, match="no image, only headers"):
        opened(Structure(headers, b"").emit())


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"\x20" + bytes([1] * 192), "damaged"),
        (b"\x04" + bytes([1] * 64), "damaged"),
        (b"\0" + bytes([1] * 63), "damaged"),
        (b"\x10" + bytes([1] * 127), "damaged"),
        (b"\0" + bytes([1] * 63) + b"\0", "step of zero"),
    ],
)
def test_tables_that_no_encoder_writes_are_damage(payload: bytes, words: str) -> None:
    with pytest.raises(DamagedJpeg, match=words):
        read_tables(payload)
    whole = bytes([3, *[2] * 64, 0x11, *[1] * 128])
    assert {number: int(table[0, 0]) for number, table in read_tables(whole).items()} == {3: 2, 1: 257}


@pytest.mark.parametrize("name", [b"XYB_Per", "XYB_Per".encode("utf-16-be")])
def test_xyb_is_refused(name: bytes) -> None:
    with pytest.raises(UnsupportedJpeg, match="XYB"):
        opened(jpeg(keep_rgb=True, icc_profile=bytes(128) + name))
    assert opened(jpeg(keep_rgb=True, icc_profile=bytes(128) + b"XYZ "))


def test_cmyk_is_refused() -> None:
    buffer = BytesIO()
    Image.new("CMYK", (16, 16)).save(buffer, "JPEG")
    with pytest.raises(UnsupportedJpeg, match="CMYK"):
        opened(buffer.getvalue())


def test_a_png_called_jpg_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    with pytest.raises(PhotoError, match="cannot be read"):
        JpegPhoto.open(path)
    Image.new("RGB", (8, 8)).save(path, "PNG")
    with pytest.raises(NotJpeg, match="PNG"):
        JpegPhoto.open(path)


def test_too_many_pixels_are_refused_by_the_header_alone() -> None:
    bomb = with_frame(jpeg(), at=1, change=b"\xff\xdc\xff\xdc")
    with pytest.raises(TooManyPixels, match="200 megapixels"):
        opened(bomb)
    assert opened(jpeg(), max_pixels=72 * 104)
    with pytest.raises(TooManyPixels):
        opened(jpeg(), max_pixels=72 * 104 - 1)


@pytest.mark.slow
@pytest.mark.parametrize("progressive", [False, True])
def test_a_few_bytes_that_announce_a_giant_are_refused(progressive: bool) -> None:
    flat = Image.new("RGB", (8000, 8000), "gray")
    buffer = BytesIO()
    flat.save(buffer, "JPEG", quality=20, progressive=progressive)
    assert opened(buffer.getvalue()).header.width == 8000  # The shortest data that a whole picture has.
    with pytest.raises(DamagedJpeg, match="far too short for 8192x8192 pixels"):
        opened(with_frame(jpeg(progressive=progressive), at=1, change=b"\x20\x00\x20\x00"))


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("height", [1, 64, 200])
def test_pixels_are_the_decoders(gray: bool, height: int) -> None:
    wide = np.resize(picture(gray=gray), (height, 104, 3)[: 2 if gray else 3])
    data = jpeg(wide)
    pixels = opened(data).pixels()
    assert np.array_equal(pixels, by_pillow(data))


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("window", [np.s_[:, :], np.s_[:1, 90:], np.s_[3:70, 5:6], np.s_[64:900, :900], np.s_[80:, :]])
def test_parts_of_a_picture_are_those_of_the_whole(gray: bool, window: tuple[slice, slice]) -> None:
    data = jpeg(picture(gray=gray))
    decoded = opened(data).decode()
    assert np.array_equal(decoded[window], by_pillow(data)[window])
    assert np.array_equal(np.asarray(decoded), by_pillow(data))
    assert np.array_equal(decoded[window], by_pillow(data)[window])
    assert np.asarray(decoded) is np.asarray(decoded)


def test_the_decoder_s_memory_is_free_once_all_of_a_picture_has_been_copied() -> None:
    with Image.open(BytesIO(jpeg())) as image:
        image.load()
        pixels, held = PillowPixels(image), weakref.ref(image)
    del image
    assert np.any(pixels[:8, :8])
    assert held() is not None
    np.asarray(pixels)
    assert held() is None


def test_pillow_s_own_pixel_limit_neither_fires_nor_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings(action="error"):
        assert opened(jpeg()).pixels().shape == (72, 104, 3)
        assert opened(jpeg()).decode()[:64, :].shape == (64, 104, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_limits_count_for_files_too(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    for limit, error in (({"max_bytes": len(jpeg()) - 1}, TooManyBytes), ({"max_pixels": 72 * 104 - 1}, TooManyPixels)):
        with pytest.raises(error):
            JpegPhoto.open(tmp_path / "photo.jpg", **limit)


@pytest.mark.parametrize(
    "strange",
    [
        with_frame(jpeg(), at=15, change=b"\0"),
        with_segments(jpeg(), Segment(0x4F)),
        with_segments(jpeg(), Segment(0xE0, b"JFIF\0")),
        with_segments(jpeg(), Segment(0xC4, b"\0")),
    ],
    ids=["frame", "unknown marker", "JFIF", "Huffman table"],
)
def test_whatever_the_decoder_raises_is_damage(strange: bytes) -> None:
    photo = opened(strange)
    with pytest.raises(DamagedJpeg, match="cannot be decoded"):
        photo.pixels()


@pytest.mark.parametrize("change", [{"height": 73}, {"width": 103}, {"colour": "gray"}])
def test_a_decoder_that_sees_another_picture_than_the_header_is_not_believed(change: dict[str, Any]) -> None:
    photo = opened(jpeg())
    with pytest.raises(DamagedJpeg, match="another size or number of colours"):
        replace(photo, header=replace(photo.header, **change)).pixels()


def test_pixels_are_those_that_pillow_decodes() -> None:
    for options in ({}, {"progressive": True}, {"subsampling": 1}, {"restart_marker_blocks": 2}, {"keep_rgb": True}):
        assert np.array_equal(opened(jpeg(**options)).pixels(), by_pillow(jpeg(**options)))


@pytest.mark.parametrize("transform", [0, 1])
def test_adobe_s_segment_decides_the_colours_of_files_without_jfif(transform: int) -> None:
    soi, _, *rest = parse(jpeg()).segments
    data = Structure((soi, adobe(transform), *rest), b"").emit()
    assert opened(data).header.colour == ("ycbcr" if transform else "rgb")
    assert np.array_equal(opened(data).pixels(), by_pillow(data))


@pytest.mark.parametrize("transforms", [(1, 0), (0, 1), (0, 2), (1, 0, 1)])
def test_of_several_adobe_segments_the_last_one_counts(transforms: tuple[int, ...]) -> None:
    soi, _, *rest = parse(jpeg()).segments
    data = Structure((soi, *map(adobe, transforms), *rest), b"").emit()
    assert opened(data).header.colour == ("ycbcr" if transforms[-1] else "rgb")
    assert np.array_equal(opened(data).pixels(), by_pillow(data))


@pytest.mark.parametrize(("kept", "colour"), [(14, "ycbcr"), (13, "rgb")])
def test_a_jfif_segment_counts_from_fourteen_bytes_on(kept: int, colour: str) -> None:
    soi, jfif, *rest = parse(jpeg()).segments
    data = Structure((soi, Segment(0xE0, jfif.payload[:kept]), adobe(0), *rest), b"").emit()
    assert opened(data).header.colour == colour
    assert np.array_equal(opened(data).pixels(), by_pillow(data))


@pytest.mark.parametrize(("kept", "colour"), [(12, "rgb"), (11, "ycbcr")])
def test_an_adobe_segment_counts_from_twelve_bytes_on(kept: int, colour: str) -> None:
    soi, _, *rest = parse(jpeg()).segments
    data = Structure(
        (soi, Segment(0xE0, b"JFXX\0" + bytes(9)), Segment(0xEE, adobe(0).payload[:kept]), *rest), b""
    ).emit()
    assert opened(data).header.colour == colour
    assert np.array_equal(opened(data).pixels(), by_pillow(data))


def test_samplings_without_a_name_are_told_by_their_factors() -> None:
    header = opened(jpeg()).header
    components = tuple(replace(component, h=1, v=2) for component in header.components)
    assert replace(header, components=components).sampling == "1x2,1x2,1x2"


def test_what_stands_behind_the_first_scan_says_nothing_of_the_colours() -> None:
    soi, _, *rest, eoi = parse(jpeg()).segments
    data = Structure((soi, *rest, adobe(0), eoi), b"").emit()
    assert opened(data).header.colour == "ycbcr"


@pytest.mark.parametrize(("kept", "share"), [(1, 0), (4, 0), (9, 67)])
def test_missing_scans_of_a_progressive_file_are_named(kept: int, share: int) -> None:
    segments = parse(jpeg(progressive=True)).segments
    scans = [number for number, s in enumerate(segments) if s.marker == 0xDA]
    assert len(scans) > kept
    with pytest.raises(DamagedJpeg, match=f"scans are missing: only {share} %"):
        opened(Structure((*segments[: scans[kept]], segments[-1]), b"").emit())


def test_a_scan_that_says_nonsense_completes_nothing() -> None:
    *start, end = parse(jpeg(progressive=True)).segments
    first = next(number for number, s in enumerate(start) if s.marker == 0xDA) + 1
    for last in (64, 255):
        nonsense = Segment(0xDA, bytes([3, 1, 0, 2, 0x11, 3, 0x11, 0, last, 0]))
        with pytest.raises(DamagedJpeg, match="scans are missing"):
            opened(Structure((*start[:first], nonsense, end), b"").emit())


@pytest.mark.parametrize("header", [b"", b"\1", b"\1\1", b"\x80\1\0", b"\1\x09\0\0\x3f\0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_scan_header_that_is_cut_short_or_of_no_component_counts_for_nothing(
    header: bytes, progressive: bool
) -> None:
    *start, end = parse(jpeg(progressive=progressive)).segments
    whole = opened(Structure((*start, Segment(0xDA, header), end), b"").emit()).header
    assert whole.process == ("progressive" if progressive else "baseline")
    frame_alone = [s for s in start if s.marker != 0xDA]
    with pytest.raises(DamagedJpeg, match=r"scans are missing|no image data"):
        opened(Structure((*frame_alone, Segment(0xDA, header), end), b"").emit())


def test_texts_that_are_shown_are_printable() -> None:
    exif = Image.Exif()
    exif[0x0110] = "Cam\x1b[31m\nrestored: forged.jpg"
    summary = opened(
        jpeg(exif=exif.tobytes(), comment=b"codiff-batch 0.1.0 \x1b", quality=95, subsampling=0)
    ).metadata()
    assert summary.camera and summary.camera.isprintable()
    assert summary.restored_by and summary.restored_by.isprintable()


def test_what_a_file_carries_is_named() -> None:
    plain = opened(jpeg()).metadata()
    assert (plain.kinds(), plain.jfif, plain.orientation, plain.taken, plain.camera) == ([], True, None, None, None)
    iptc = (Segment(0xED, b"Photoshop 3.0\0" + part) for part in (b"8BIM\x04\x25", b"8BIM\x04\x04"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pieces = {2: profile[400:], 1: profile[:400]}
    data = with_segments(
        jpeg(),
        Segment(0xE3, b"Exif\0\0" + exif_block({0x0112: 3})),
        Segment(0xE1, b"Exif\0\0" + exif_block({0x0110: "C" * 501, 0x0112: 8}, {0x9003: "2020"}, gps={1: "N"})),
        *(Segment(0xE2, b"ICC_PROFILE\0" + bytes([number, 2]) + piece) for number, piece in pieces.items()),
        Segment(0xE3, XMP + b"an odd place"),
        Segment(0xE1, XMP + b"<x/>"),
        *iptc,
        multi_picture_index(0, 0, 0),
        Segment(0xEB, b"JP\0\1\0\0\0\1c2pa"),
        Segment(0xFE, b"codiff-batch's is a comment"),
        Segment(0xFE, b"codiff-batch 9 model=x"),
        trailer=b"!",
    )
    told = opened(data).metadata()
    kinds = ["EXIF", "GPS", "orientation 8", f"ICC ({told.icc})", "XMP", "IPTC", "Photoshop", "MPF", "C2PA", "comment"]
    assert told.kinds() == [*kinds, "trailer"]
    assert "sRGB" in str(told.icc)
    assert (told.camera, told.taken, told.comments, told.trailer_bytes) == ("C" * 500, "2020", 1, 1)
    assert told.restored_by is None
    assert xmp_bytes(parse(data)) == b"<x/>"
    assert icc_bytes(parse(data)) == profile


@pytest.mark.parametrize("parts", [[b"\2\2b"], [b"\1\2a", b"\3\2c"], [b"\0\1a"], [b""], [b"\1"], [b"\1\1"]])
def test_a_profile_with_a_part_missing_is_none(parts: list[bytes]) -> None:
    assert (
        opened(with_segments(jpeg(), *(Segment(0xE2, b"ICC_PROFILE\0" + part) for part in parts))).metadata().icc
        is None
    )


def test_a_profile_that_cannot_be_read_has_no_name() -> None:
    assert opened(jpeg(icc_profile=b"no profile")).metadata().kinds() == ["ICC"]


@pytest.mark.parametrize(("stored", "orientation"), [(1, 1), (8, 8), (0, None), (9, None)])
def test_an_orientation_is_one_of_eight(stored: int, orientation: int | None) -> None:
    summary = opened(jpeg(exif=b"Exif\0\0" + exif_block({0x0112: stored}))).metadata()
    assert summary.orientation == orientation
    assert summary.kinds() == ["EXIF", "orientation 8"][: 1 + (orientation == 8)]


def test_jfif_outweighs_adobe_s_segment() -> None:
    data = with_segments(jpeg(), adobe(0))
    assert opened(data).header.colour == "ycbcr"
    soi, jfif, *rest = parse(data).segments
    elsewhere = Structure((soi, Segment(0xE1, jfif.payload), *rest), b"").emit()
    assert opened(elsewhere).header.colour == "rgb"
    assert np.array_equal(opened(data).pixels(), by_pillow(data))


@pytest.mark.parametrize("names", [(1, 2, 3), (1, 0, 2)])
def test_each_component_has_the_table_in_force_at_its_first_scan(names: tuple[int, ...]) -> None:
    coarse, fine = (parse(jpeg(picture(16, 16, gray=True), quality=q)).segments for q in (30, 80))

    def pick(segments: tuple[Segment, ...], marker: int) -> list[Segment]:
        return [s for s in segments if s.marker == marker]

    def scan(segments: tuple[Segment, ...], component: int) -> Segment:
        return Segment(0xDA, bytes([1, component, 0, 0, 63, 0]), scan=pick(segments, 0xDA)[0].scan)

    components = b"\3" + b"".join(bytes([name, 0x11, 0]) for name in names)
    frame = Segment(0xC0, pick(coarse, 0xC0)[0].payload[:5] + components)
    start = (coarse[0], *pick(coarse, 0xDB), frame, *pick(coarse, 0xC4), scan(coarse, names[0]))
    end = (*pick(fine, 0xDB), *(scan(fine, name) for name in (*names[1:], names[0])), Segment(0xD9))
    tables = opened(Structure(start + end, b"").emit()).header.tables
    expected = [ijg_table(quality, chroma=False) for quality in (30, 80, 80)]
    assert [t[0, 0] for t in tables] == [t[0, 0] for t in expected]


@pytest.mark.slow
def test_only_our_errors_come_out_of_the_corpus(corpus: list[Path]) -> None:
    for path in corpus:
        try:
            photo = JpegPhoto.open(path, max_pixels=CORPUS_LIMIT)
            photo.metadata()
            photo.pixels()
        except PhotoError as error:
            assert str(error) and "\n" not in str(error), path.name


@pytest.mark.slow
def test_valid_files_of_handled_kinds_are_accepted(corpus: list[Path]) -> None:
    refused = []
    for path in corpus:
        if path.parent.name == "valid" and "progressive-missing" not in path.name:
            try:
                JpegPhoto.open(path)
            except UnsupportedJpeg:
                continue
            except PhotoError as error:
                refused.append(f"{path.name}: {error}")
    assert not refused


@pytest.mark.slow
def test_the_corpus_decodes_as_in_pillow(corpus: list[Path]) -> None:
    compared = 0
    for photo, pixels in decodable(corpus):
        try:
            expected = by_pillow(photo.data)
        except (OSError, SyntaxError):
            continue  # Odd metadata stops Pillow, but not us.
        assert np.array_equal(pixels, expected), photo.path
        compared += 1
    assert compared > 400


def test_a_scan_without_a_header_is_a_fault_of_the_file() -> None:
    head, scan = jpeg().split(b"\xff\xda", 1)
    with pytest.raises(DamagedJpeg):
        JpegPhoto.from_bytes(head + b"\xff\xda\x00\x02" + scan[int.from_bytes(scan[:2], "big") :])
