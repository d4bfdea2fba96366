"""What a photo's metadata become in containers other than its own."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from codiff_batch.errors import OptionsConflict, PhotoError
from codiff_batch.formats import NAMES, Order, encode, find_format, formats, refuse, suffix_of
from codiff_batch.formats.profile import fitting
from codiff_batch.jpeg import JpegPhoto, Segment
from codiff_batch.jpeg.metadata import EXTENDED_XMP, XMP
from tests.jpeg.samples import NOTE, exif_block, jpeg, picture, with_frame, with_segments

FORMATS = formats()
OTHERS = [name for name in FORMATS if name != "jpeg"]
ALL = pytest.mark.parametrize("name", OTHERS)
INSTALLED = {name: format.is_installed for name, format in FORMATS.items()}


def written(data: bytes, name: str, **options: Any) -> bytes:
    """What a restoration that changes no pixel writes."""
    if not INSTALLED[name]:
        pytest.skip(f"{name} is not installed")
    photo = JpegPhoto.from_bytes(data)
    return encode(photo.pixels(), photo, name, Order(NOTE, **options))


def opened(data: bytes, name: str) -> Image.Image:
    if name == "jxl":
        pytest.importorskip("pillow_jxl", reason="Pillow reads no JPEG XL here")
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def told(data: bytes, name: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    """What exiftool says of an output, by group and tag."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    path = tmp_path / f"output.{name}"
    path.write_bytes(data)
    command = ["exiftool", "-json", "-G1", "-n", "-a", *more, str(path)]
    rows: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return rows[0]


def with_exif(block: bytes, **options: Any) -> bytes:
    return jpeg(exif=b"Exif\0\0" + block, **options)


def with_xmp(packet: bytes, *more: Segment) -> bytes:
    return with_segments(jpeg(), Segment(0xE1, XMP + packet), *more)


def rdf(properties: str = "", attributes: str = "", namespaces: str = "") -> str:
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        f'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4" {namespaces} {attributes}>{properties}'
        f'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("name", ["png", "tiff", "jxl"])
def test_lossless_formats_keep_every_pixel(name: str, gray: bool) -> None:
    data = jpeg(picture(gray=gray))
    pixels = np.asarray(opened(written(data, name, quality=100), name))
    assert np.array_equal(pixels, JpegPhoto.from_bytes(data).pixels())


@pytest.mark.parametrize("name", ["webp", "avif", "jxl"])
def test_lossy_formats_follow_the_quality(name: str) -> None:
    data = jpeg(quality=95)
    small, large = (written(data, name, quality=quality) for quality in (30, 95))
    assert len(small) < len(large) / 2
    error = np.asarray(opened(large, name), float) - JpegPhoto.from_bytes(data).pixels()
    assert np.sqrt(np.mean(error**2)) < 6


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("claimed", [(4000, 3000), (16, 12)])
def test_fields_that_describe_the_source_s_own_container_stay_behind(
    name: str, claimed: tuple[int, int], tmp_path: Path
) -> None:
    width, height = claimed
    structural = {0x0100: width, 0x0101: height, 0x0102: (16, 16), 0x0103: 7, 0x0106: 6, 0x0111: (8, 9), 0x0115: 4}
    block = exif_block({**structural, 0x0110: "A camera", 0x0117: (9, 9), 0x011C: 2, 0x0211: (1, 2, 3)})
    output = written(with_exif(block), name)
    assert opened(output, name).size == (104, 72)
    tags = told(output, name, tmp_path)
    assert tags["IFD0:Model"] == "A camera"
    assert width not in tags.values() and "IFD0:YCbCrCoefficients" not in tags


@ALL
def test_exif_travels_whole(name: str, tmp_path: Path) -> None:
    maker_note = b"MAKER\0" + bytes(range(200))
    details = {0x9003: "2020:01:02 03:04:05", 0x927C: maker_note, 0xA005: {1: "R03", 2: b"0100"}}
    block = exif_block({0x0110: "A camera", 0x0112: 3}, details, gps={1: "N", 2: (48.0, 12.0, 30.0)})
    output = written(with_exif(block), name)
    tags = told(output, name, tmp_path)
    assert tags["IFD0:Model"] == "A camera"
    assert tags["ExifIFD:DateTimeOriginal"] == "2020:01:02 03:04:05"
    assert tags["InteropIFD:InteropIndex"] == "R03"
    assert abs(tags["GPS:GPSLatitude"] - 48.2083) < 1e-3
    place = block.index(maker_note)
    assert maker_note in output
    assert output.index(maker_note) - output.index(block[:8][:4], max(0, output.index(maker_note) - place)) == place


@ALL
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_stands_upright_in_every_reader(name: str, orientation: int, tmp_path: Path) -> None:
    from PIL import ImageOps

    data = with_exif(exif_block({0x0112: orientation}), quality=95)
    source = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    output = opened(written(data, name), name)
    shown = ImageOps.exif_transpose(output)
    assert shown.size == source.size
    assert np.abs(np.asarray(shown, float) - np.asarray(source, float)).mean() < 4


def gray_profile() -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, 0x0233, 0)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"gray\0" + bytes(79)
    header = bytearray(128)
    header[8:12], header[12:16], header[16:20], header[20:24] = b"\2\x20\0\0", b"mntr", b"GRAY", b"XYZ "
    header[36:40], header[68:80] = b"acsp", white[8:]
    table, body = struct.pack(">I", 3), b""
    for signature, content in ((b"desc", name), (b"wtpt", white), (b"kTRC", curve)):
        table += struct.pack(">4sII", signature, 128 + 4 + 36 + len(body), len(content))
        body += content
    header[:4] = struct.pack(">I", len(header) + len(table) + len(body))
    return bytes(header) + table + body


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@ALL
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("profile", [gray_profile(), SRGB], ids=["gray profile", "RGB profile"])
def test_the_profile_agrees_with_the_pixels(name: str, gray: bool, profile: bytes) -> None:
    image = opened(written(jpeg(picture(gray=gray), icc_profile=profile), name), name)
    kept = image.info.get("icc_profile")
    assert image.mode == ("L" if gray and name != "webp" else "RGB")
    if kept is not None:
        assert kept[16:20] == (b"GRAY" if image.mode == "L" else b"RGB ")
        ImageCms.profileToProfile(image, io.BytesIO(kept), ImageCms.createProfile("sRGB"), outputMode="RGB")
    if gray == (profile != SRGB) and name != "webp" and name != "jxl":
        assert kept == profile


@pytest.mark.parametrize(("profile", "to_gray"), [(gray_profile(), False), (SRGB, True)], ids=["gray", "colour"])
def test_a_profile_of_the_other_kind_gives_gray_the_same_colours(profile: bytes, to_gray: bool) -> None:
    other = fitting(profile, gray=to_gray)
    assert other is not None
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (2, 1)))
    srgb = ImageCms.createProfile("sRGB")
    shown = []
    for kind in (profile, other):
        image = ramp if kind[16:20] == b"GRAY" else ramp.convert("RGB")
        converted = ImageCms.profileToProfile(image, io.BytesIO(kind), srgb, outputMode="RGB")
        assert converted is not None
        shown.append(np.asarray(converted, float))
    assert np.abs(shown[0] - shown[1]).max() <= 1


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"])
def test_xmp_is_understood_in_every_encoding(name: str, encoding: str, tmp_path: Path) -> None:
    title = '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Grüße</rdf:li></rdf:Alt></dc:title>'
    declared = f'<?xml version="1.0" encoding="{encoding[:6]}"?>' if encoding == "utf-16" else ""
    packet = (declared + rdf(title, namespaces='xmlns:dc="http://purl.org/dc/elements/1.1/"')).encode(encoding)
    tags = told(written(with_xmp(packet), name), name, tmp_path)
    assert (tags["XMP-xmp:Rating"], tags["XMP-dc:Title"]) == (4, "Grüße")


@ALL
def test_pointers_at_what_stays_behind_do_not_travel(name: str, tmp_path: Path) -> None:
    namespaces = (
        'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
        'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
    )
    items = (
        "<Container:Directory><rdf:Seq><rdf:li><Item:Length>4032</Item:Length></rdf:li></rdf:Seq></Container:Directory>"
    )
    attributes = 'GCamera:MicroVideo="1" GCamera:MotionPhotoVersion="1" GCamera:SpecialTypeID="9" hdrgm:Version="1.0"'
    data = with_xmp(rdf(items, attributes, namespaces).encode()) + b"a video"
    output = written(data, name)
    tags = told(output, name, tmp_path)
    assert tags["XMP-xmp:Rating"] == 4
    assert not [tag for tag in tags if "MicroVideo" in tag or "Motion" in tag or ("Directory" in tag and "XMP" in tag)]
    for words in (b"MicroVideo", b"MotionPhoto", b"4032", b"hdrgm:Version"):
        assert words not in output
    assert b"SpecialTypeID" in output


@ALL
def test_an_extended_packet_is_joined_in(name: str, tmp_path: Path) -> None:
    digest = b"0123456789ABCDEF0123456789ABCDEF"
    note = 'xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
    standard = rdf("", f'xmpNote:HasExtendedXMP="{digest.decode()}"', note).encode()
    names = 'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="from the extended packet"'
    extended = rdf("", names).replace('xmp:Rating="4"', "").encode()
    parts = [
        Segment(0xE1, EXTENDED_XMP + digest + struct.pack(">II", len(extended), at) + extended[at : at + 200])
        for at in reversed(range(0, len(extended), 200))
    ]
    tags = told(written(with_xmp(standard, *parts), name), name, tmp_path)
    assert (tags["XMP-xmp:Rating"], tags["XMP-dc:Source"]) == (4, "from the extended packet")
    assert "XMP-xmpNote:HasExtendedXMP" not in tags


@ALL
def test_broken_xmp_stops_nothing(name: str) -> None:
    for packet in (b"\xff\xfe", b"<x", b"\0" * 50, b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", b"caf\xe9"):
        assert written(with_xmp(packet), name)


@pytest.mark.slow
@ALL
@pytest.mark.parametrize(("unit", "density", "inch"), [(1, (300, 150), (300, 150)), (2, (100, 50), (254, 127))])
def test_a_density_travels(
    name: str, unit: int, density: tuple[int, int], inch: tuple[int, int], tmp_path: Path
) -> None:
    soi, jfif, *rest = JpegPhoto.from_bytes(jpeg()).structure.segments
    payload = jfif.payload[:7] + struct.pack(">BHH", unit, *density) + jfif.payload[12:]
    data = b"".join(s.emit() for s in (soi, Segment(0xE0, payload), *rest))
    output = written(data, name)
    if name == "png":
        assert opened(output, name).info["dpi"] == pytest.approx(inch, abs=0.02)
    else:
        tags = told(output, name, tmp_path)
        assert (tags["IFD0:XResolution"], tags["IFD0:YResolution"]) == density
        assert tags["IFD0:ResolutionUnit"] == unit + 1


@pytest.mark.slow
@ALL
def test_comments_travel_in_whatever_they_are_written(name: str, tmp_path: Path) -> None:
    for encoding, text in (("latin-1", "Café, 3 août"), ("cp1252", "Café: 3 €"), ("utf-8", "Café, 3 août")):
        tags = told(written(jpeg(comment=text.encode(encoding)), name), name, tmp_path)
        assert tags["PNG:Comment" if name == "png" else "IFD0:ImageDescription"] == text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["png", "tiff"])
def test_iptc_travels_where_the_container_has_a_place(name: str, tmp_path: Path) -> None:
    records = b"\x1c\x02\x78\x00\x09A caption" + b"\x1c\x02\x5a\x00\x06Berlin"
    resources = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records + b"\0" * (len(records) % 2)
    data = with_segments(jpeg(), Segment(0xED, b"Photoshop 3.0\0" + resources))
    tags = told(written(data, name), name, tmp_path)
    assert (tags["IPTC:Caption-Abstract"], tags["IPTC:City"]) == ("A caption", "Berlin")


@pytest.mark.slow
@ALL
def test_the_program_signs_its_outputs(name: str, tmp_path: Path) -> None:
    tags = told(written(jpeg(), name), name, tmp_path)
    assert str(tags["PNG:Software" if name == "png" else "IFD0:Software"]).startswith(NOTE)
    named = told(written(with_exif(exif_block({0x0131: "An editor"})), name), name, tmp_path)
    assert named["IFD0:Software"] == "An editor"
    assert any(str(value).startswith(NOTE) for value in named.values())


@ALL
def test_damaged_exif_stops_nothing(name: str) -> None:
    blocks = (b"", b"\xff\xff\xff\xff\0\0\0\x08damaged", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff")
    for block in blocks:
        data = with_segments(jpeg(), Segment(0xE1, b"Exif\0\0" + block))
        assert opened(written(data, name), name).size == (104, 72)


def test_values_that_tiff_does_not_allow_stay_behind(tmp_path: Path) -> None:
    output = written(with_exif(exif_block({0x0112: 0, 0x0128: 65535, 0x0110: "A camera"})), "tiff")
    tags = told(output, "tiff", tmp_path)
    assert "IFD0:Orientation" not in tags and tags["IFD0:Model"] == "A camera"
    assert tags.get("IFD0:ResolutionUnit") != 65535


def test_a_count_bomb_does_not_travel(tmp_path: Path) -> None:
    bomb = struct.pack("<H", 2) + struct.pack("<HHII", 0x0112, 3, 1, 1) + struct.pack("<HHII", 0xC621, 1, 1 << 31, 8)
    data = with_segments(jpeg(), Segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + bomb + bytes(4)))
    for name in OTHERS:
        if INSTALLED[name]:
            assert b"\x21\xc6\1\0\0\0\0\x80" not in written(data, name)


@pytest.mark.parametrize(("name", "side"), [("webp", 16383), ("jpeg", 65500)])
def test_a_side_that_the_container_cannot_hold_is_refused_before_the_work(name: str, side: int) -> None:
    narrow = jpeg(np.random.default_rng(0).integers(0, 256, (1024, 8, 3), np.uint8))  # data for the height
    for height, fits in ((side, True), (side + 1, False)):
        photo = JpegPhoto.from_bytes(with_frame(narrow, at=1, change=struct.pack(">H", height)))
        if fits:
            refuse(photo, name, Order(NOTE))
        else:
            with pytest.raises(PhotoError, match=f"more than {side} pixels"):
                refuse(photo, name, Order(NOTE))


def test_a_format_that_needs_another_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pylibjxl", None)
    with pytest.raises(OptionsConflict, match=r"codiff-batch\[jxl\]"):
        find_format("jxl")
    with pytest.raises(OptionsConflict, match="no output format"):
        find_format("gif")


def test_outputs_are_called_as_their_format_is() -> None:
    assert set(NAMES) >= {"same", "jpeg", "png", "webp", "tiff", "avif", "jxl"}
    assert [suffix_of(name) for name in ("same", "jpeg", "png", "tiff")] == [None, None, ".png", ".tif"]
