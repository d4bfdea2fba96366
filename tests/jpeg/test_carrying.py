"""Metadata from source to output: byte for byte, nothing lost but what the docs name."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codiff_batch.errors import PhotoError, UnsupportedJpeg
from codiff_batch.jpeg import JpegPhoto, Segment, Structure, encode_jpeg, refuse_jpeg
from codiff_batch.jpeg.encode import with_comments
from codiff_batch.jpeg.metadata import EXTENDED_XMP, XMP
from codiff_batch.jpeg.mpf import rewrite_index
from codiff_batch.jpeg.segments import parse
from tests.jpeg.samples import NOTE, adobe, decodable, jpeg, multi_picture_index, picture, with_frame, with_segments

CODING = {
    "File:YCbCrSubSampling",
    "File:EncodingProcess",
    "Adobe:DCTEncodeVersion",
    "Adobe:APP14Flags0",
    "Adobe:APP14Flags1",
    "Adobe:ColorTransform",
}
"""What exiftool says of how the image data are coded; the output's are coded again."""

MOVED = {"MPImage1:MPImageLength", "MPImage2:MPImageStart", "MPImage3:MPImageStart"}
"""Where pictures of an MPF file lie; put right because the first one changed its size."""


def restored(data: bytes, **options: Any) -> JpegPhoto:
    """What a restoration that changes no pixel writes."""
    photo = JpegPhoto.from_bytes(data)
    return JpegPhoto.from_bytes(encode_jpeg(photo.pixels(), photo, note=NOTE, **options))


def carried(photo: JpegPhoto) -> list[tuple[int, bytes]]:
    return [(s.marker, s.payload) for s in photo.structure.metadata]


def c2pa(part: int, content: bytes) -> Segment:
    """One of the APP11 segments over which a manifest box is spread (JPEG XT, ISO/IEC 18477-3, B.1)."""
    return Segment(0xEB, b"JP" + struct.pack(">HI", 1, part) + struct.pack(">I4s", 200, b"jumb") + content)


def test_metadata_and_trailer_are_carried_byte_for_byte_with_one_note_added() -> None:
    kinds = [Segment(m, f"anything {m:X}".encode()) for m in (*range(0xE1, 0xEE), 0xEF, 0xFE)]
    source = with_segments(jpeg(dpi=(300, 300)), *kinds, trailer=b"maker's own \xff\xd9 bytes")
    output = restored(source)
    *before, (marker, note) = carried(output)
    assert before == carried(JpegPhoto.from_bytes(source))
    assert marker == 0xFE and note.startswith(NOTE.encode())
    assert output.structure.trailer == b"maker's own \xff\xd9 bytes"
    assert output.metadata().restored_by == note.decode()


def test_the_picture_is_coded_without_subsampling_and_gray_stays_gray() -> None:
    assert restored(jpeg(subsampling=2)).header.sampling == "4:4:4"
    gray = restored(jpeg(picture(gray=True)))
    assert (gray.header.colour, gray.pixels().ndim) == ("gray", 2)


@pytest.mark.parametrize("transform", [0, 1])
def test_adobe_s_segment_stays_behind_and_colours_stay_right(transform: int) -> None:
    data = jpeg(quality=95, keep_rgb=True) if transform == 0 else with_segments(jpeg(quality=95), adobe(1))
    source = JpegPhoto.from_bytes(data)
    output = restored(data)
    assert not [s for s in output.structure.segments if s.marker == 0xEE]
    plainly_encoded = JpegPhoto.from_bytes(jpeg(source.pixels(), quality=95, subsampling=0))
    assert np.array_equal(output.pixels(), plainly_encoded.pixels())


def test_no_jfif_is_added_where_the_source_has_none() -> None:
    data = jpeg(keep_rgb=True)
    assert not JpegPhoto.from_bytes(data).metadata().jfif
    assert not restored(data).metadata().jfif


def test_pixels_of_another_size_or_kind_and_other_notes_are_programming_errors() -> None:
    photo = JpegPhoto.from_bytes(jpeg())
    for pixels in (photo.pixels()[:-1], photo.pixels()[:, 1:], photo.pixels().astype(np.float32)):
        with pytest.raises(ValueError, match="104x72"):
            encode_jpeg(pixels, photo, note=NOTE)
    with pytest.raises(ValueError, match="the note must start with"):
        encode_jpeg(photo.pixels(), photo, note="made by codiff-batch ")


def test_the_quality_is_the_one_that_was_asked_for() -> None:
    assert restored(jpeg()).header.qf == 95
    assert restored(jpeg(), quality=60).header.qf == 60


@pytest.mark.parametrize("kilobytes", [0, 60])
def test_a_multi_picture_index_points_at_the_second_picture_again(kilobytes: int) -> None:
    first, second = jpeg(quality=20), jpeg(picture(16, 24), quality=90)
    before = Segment(0xED, bytes(kilobytes * 1024))
    start = with_segments(first, before, multi_picture_index(0, 0, len(second)))
    base = start.index(b"MPF\0") + 4
    index = replace(multi_picture_index(len(start) - base, len(start), len(second)), lead=b"\xff\xff")
    source = with_segments(first, before, index, trailer=second)
    with Image.open(BytesIO(restored(source).data)) as pictures:
        assert getattr(pictures, "n_frames", 1) == 2
        pictures.seek(1)
        assert pictures.size == (24, 16)
        assert np.array_equal(np.asarray(pictures), JpegPhoto.from_bytes(second).pixels())
    index = replace(multi_picture_index(len(start) - base - 1, len(start), len(second)), lead=b"\xff\xff")
    with pytest.raises(UnsupportedJpeg, match="multi-picture"):  # it would lie in the first one
        restored(with_segments(first, before, index, trailer=second))


def test_an_index_leads_past_comments_that_are_added() -> None:
    first, second, kept = jpeg(quality=20), jpeg(picture(16, 24), quality=90), Segment(0xFE, b"first")
    start = with_segments(first, multi_picture_index(0, 0, len(second)), kept)
    base = start.index(b"MPF\0") + 4
    index = multi_picture_index(len(start) - base, len(start), len(second))
    output = with_comments(parse(with_segments(first, index, kept, trailer=second)), [b"second", b"third"])
    assert [s.payload for s in output.segments if s.marker == 0xFE] == [b"first", b"second", b"third"]
    with Image.open(BytesIO(output.emit())) as pictures:
        pictures.seek(1)
        assert np.array_equal(np.asarray(pictures), JpegPhoto.from_bytes(second).pixels())
    plain = parse(with_segments(first, kept))
    assert with_comments(plain, [b"second"]).emit() == with_segments(first, kept, Segment(0xFE, b"second"))


def index(order: str, *entries: tuple[int, int], cut: int = 0) -> bytes:
    """The payload of an index with nothing but entries (size, offset)."""
    head = b"MPF\0" + {"<": b"II*\0", ">": b"MM\0*"}[order]
    head += struct.pack(order + "IHHHIII", 8, 1, 0xB002, 7, 16 * len(entries) - cut, 26, 0)
    return head + b"".join(struct.pack(order + "IIIHH", 0x30000, *entry, 4, 5) for entry in entries)


@pytest.mark.parametrize("order", ["<", ">"])
def test_offsets_count_from_inside_the_index_and_move_with_both_ends(order: str) -> None:
    old, new = (100, 1104), (160, 904)  # the base is four bytes behind the payload's start
    moved = rewrite_index(index(order, (7, 0), (50, 1000), (60, 1050)), old=old, new=new)
    assert moved == index(order, (904, 0), (50, 740), (60, 790))
    assert rewrite_index(index(order, (7, 1000)), old=old, new=new) == index(order, (7, 740))
    assert rewrite_index(index(order, (7, 0), (50, 1), cut=1), old=old, new=new) == index(
        order, (904, 0), (50, 1), cut=1
    )


@pytest.mark.parametrize(
    "payload",
    [
        index("<", (7, 0), (50, 999)),
        index("<", (7, 0), (50, 0)),
        index("<", (7, 1)),
        index("<", (7, 0))[:-1],
        index("<", (7, 0)).replace(b"II*", b"II+"),
        index("<", (7, 0))[:20],
    ],
    ids=["inside the first", "the first again", "the first elsewhere", "an entry cut off", "byte order", "directory"],
)
def test_an_index_that_leads_elsewhere_is_refused(payload: bytes) -> None:
    with pytest.raises(UnsupportedJpeg, match="multi-picture"):
        rewrite_index(payload, old=(100, 1104), new=(160, 904))


def test_an_index_that_cannot_be_understood_is_refused() -> None:
    with pytest.raises(UnsupportedJpeg, match="multi-picture"):
        restored(with_segments(jpeg(), Segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff")))


def test_a_signed_photo_is_refused_unless_its_signature_may_go() -> None:
    signed = with_segments(jpeg(), c2pa(1, b"jumd c2pa manifest"), Segment(0xFE, b"kept"))
    assert JpegPhoto.from_bytes(signed).metadata().c2pa
    with pytest.raises(UnsupportedJpeg, match="signed"):
        restored(signed)
    unsigned = restored(signed, drop_signature=True)
    assert not unsigned.metadata().c2pa
    assert (0xFE, b"kept") in carried(unsigned)


def test_a_signature_goes_with_all_its_segments() -> None:
    signed = with_segments(jpeg(), c2pa(1, b"jumd c2pa manifest"), c2pa(2, b"and the rest of it"))
    output = restored(signed, drop_signature=True)
    assert not [s for s in output.structure.segments if s.marker == 0xEB]


def test_another_box_in_the_same_kind_of_segment_stays() -> None:
    other = Segment(0xEB, b"JP\0\2" + bytes(12) + b"jumb 360 degrees")
    signed = with_segments(jpeg(), c2pa(1, b"jumd c2pa manifest"), other, Segment(0xEB, b"not a box: c2pa"))
    output = restored(signed, drop_signature=True)
    left = [s.payload for s in output.structure.segments if s.marker == 0xEB]
    assert left == [other.payload, b"not a box: c2pa"]


def test_of_two_restorations_the_last_one_is_reported() -> None:
    photo = restored(jpeg())
    later = encode_jpeg(photo.pixels(), photo, note="codiff-batch later")
    assert (JpegPhoto.from_bytes(later).metadata().restored_by or "").startswith("codiff-batch later picture=")


def test_a_multi_picture_header_without_an_index_has_nothing_to_move_and_is_carried() -> None:
    attributes = b"MPF\0" + b"II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0xB000, 7, 4, b"0100", 0)
    output = restored(with_segments(jpeg(), Segment(0xE2, attributes)))
    assert (0xE2, attributes) in carried(output)


def test_what_the_writer_would_refuse_is_known_before() -> None:
    for broken in (Segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"), c2pa(1, b"jumd c2pa manifest")):
        with pytest.raises(UnsupportedJpeg):
            refuse_jpeg(JpegPhoto.from_bytes(with_segments(jpeg(), broken)))
    refuse_jpeg(JpegPhoto.from_bytes(jpeg()))
    for at, size in ((1, (1024, 8, 3)), (3, (8, 1024, 3))):
        narrow = jpeg(np.random.default_rng(0).integers(0, 256, size, np.uint8))  # as much data as the sides promise
        refuse_jpeg(JpegPhoto.from_bytes(with_frame(narrow, at=at, change=struct.pack(">H", 65500))))
        with pytest.raises(PhotoError, match="more than 65500 pixels"):
            refuse_jpeg(JpegPhoto.from_bytes(with_frame(narrow, at=at, change=struct.pack(">H", 65501))))


@pytest.mark.parametrize("marker", [0xE1, 0xEE])
def test_metadata_is_carried_in_whatever_segment_it_stands(marker: int) -> None:
    packet = (marker, XMP + b"<x:xmpmeta/>")
    assert packet in carried(restored(with_segments(jpeg(), Segment(*packet))))
    elsewhere = [(marker, b"MPF\0 is no index here"), (marker, c2pa(1, b"c2pa").payload)]
    assert carried(restored(with_segments(jpeg(), *(Segment(*each) for each in elsewhere))))[1:3] == elsewhere


PROVENANCE = 'dcterms:provenance="https://example.org/\u00fc.c2pa"'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "words", [PROVENANCE, PROVENANCE.replace("dcterms:", "d:"), "<dcterms:provenance>https://x/y</dcterms:provenance>"]
)
def test_a_manifest_that_is_kept_elsewhere_signs_the_photo_too(words: str, encoding: str) -> None:
    prefix = "d" if words.startswith("d:") else "dcterms"
    packet = f'\ufeff<a xmlns:{prefix}="http://purl.org/dc/terms/" {words}>kept</a>'.encode(encoding)
    signed = with_segments(jpeg(), Segment(0xE1, XMP + packet))
    assert JpegPhoto.from_bytes(signed).metadata().c2pa
    with pytest.raises(UnsupportedJpeg, match="signed"):
        restored(signed)
    unsigned = restored(signed, drop_signature=True)
    assert not unsigned.metadata().c2pa
    (left,) = [payload for marker, payload in carried(unsigned) if marker == 0xE1]
    assert len(left) == len(XMP) + len(packet)
    assert "kept</a>" in left[len(XMP) :].decode(encoding)


def extended(packet: bytes, *, length: int | None = None, digest: bytes = b"0123456789ABCDEF" * 2) -> list[Segment]:
    """A packet in two parts, the later one first."""
    head, half = EXTENDED_XMP + digest + struct.pack(">I", length or len(packet)), len(packet) // 2
    parts = ((half, packet[half:]), (0, packet[:half]))
    return [Segment(0xE1, head + struct.pack(">I", at) + part) for at, part in parts]


def test_an_extended_packet_names_a_manifest_too_and_loses_its_address() -> None:
    standard = Segment(0xE1, XMP + b'<a xmpNote:HasExtendedXMP="0123456789abcdef0123456789ABCDEF"/>')
    packet = f'<a xmlns:dcterms="http://purl.org/dc/terms/" {PROVENANCE}/>'.encode()
    parts = extended(packet)
    assert PROVENANCE.encode() not in parts[0].payload  # it is spread over both
    signed = with_segments(jpeg(), standard, *parts)
    assert JpegPhoto.from_bytes(signed).metadata().c2pa
    unsigned = restored(signed, drop_signature=True)
    assert not unsigned.metadata().c2pa
    left = [payload for _, payload in carried(unsigned) if payload.startswith(EXTENDED_XMP)]
    assert [payload[:75] for payload in left] == [part.payload[:75] for part in parts]
    assert left[1][75:] + left[0][75:] == packet.replace(PROVENANCE.encode(), b" " * len(PROVENANCE.encode()))
    # Parts of another packet, or of one that is not whole, are none of this photo's.
    for others in (
        [],
        parts[:1],
        extended(packet, length=500),
        extended(packet, digest=b"F" * 32),
        [Segment(0xE2, part.payload) for part in parts],
    ):
        assert not JpegPhoto.from_bytes(with_segments(jpeg(), standard, *others)).metadata().c2pa
    assert not JpegPhoto.from_bytes(with_segments(jpeg(), *parts)).metadata().c2pa
    # One that says wrongly where it belongs is carried as it is.
    wrong = Segment(0xE1, parts[0].payload[:71] + struct.pack(">I", 900) + parts[0].payload[75:])
    output = restored(with_segments(jpeg(), standard, wrong, parts[1]), drop_signature=True)
    assert (0xE1, wrong.payload) in carried(output)


def test_the_note_counts_while_the_picture_is_the_one_that_was_restored() -> None:
    output = restored(jpeg())
    retouched = with_segments(output.data, Segment(0xFE, b"a caption"))
    assert JpegPhoto.from_bytes(retouched).metadata().restored_by
    elsewhere = Structure(
        tuple(Segment(0xEF, s.payload) if s.marker == 0xFE else s for s in output.structure.segments), b""
    )
    assert JpegPhoto.from_bytes(elsewhere.emit()).metadata().restored_by is None
    quoting = [replace(s, payload=b"by " + s.payload) if s.marker == 0xFE else s for s in output.structure.segments]
    assert JpegPhoto.from_bytes(Structure(tuple(quoting), b"").emit()).metadata().restored_by is None
    for options in ({"quality": 8, "subsampling": 0}, {"quality": 95, "subsampling": 0}, {"quality": 40}):
        saved_again = jpeg(output.pixels(), comment=carried(output)[-1][1], **options)
        assert JpegPhoto.from_bytes(saved_again).metadata().restored_by is None


def test_notes_of_the_first_version_count_with_the_tables_that_it_wrote() -> None:
    note = b"codiff-batch 0.1.0 model=compact qf=19"
    for options, counts in (
        ({}, True),
        ({"pixels": picture(gray=True)}, True),
        ({"quality": 94}, False),
        ({"quality": 8}, False),
        ({"subsampling": 2}, False),
        ({"progressive": True}, False),
        ({"comment": b"codiff-batch 0.2.0 model=compact qf=19"}, False),
    ):
        given: dict[str, Any] = {"quality": 95, "subsampling": 0, "comment": note, **options}
        data = jpeg(**given)
        assert (JpegPhoto.from_bytes(data).metadata().restored_by is not None) is counts


@pytest.mark.slow
def test_exiftool_finds_every_value_of_the_corpus_again(corpus: list[Path], tmp_path: Path) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    sources, outputs = tmp_path / "sources", tmp_path / "outputs"
    sources.mkdir()
    outputs.mkdir()
    refused = []
    for number, (photo, pixels) in enumerate(decodable(corpus)):
        try:
            output = encode_jpeg(pixels, photo, note=NOTE)
        except UnsupportedJpeg:
            assert photo.path is not None
            refused.append(photo.path.name)
            continue
        (sources / f"{number}.jpg").write_bytes(photo.data)
        (outputs / f"{number}.jpg").write_bytes(output)
    # Both are Pillow's own tests for multi-picture indexes that are wrong.
    assert refused == ["Pillow__sugarshack_bad_mpo_header.jpg", "Pillow__sugarshack_ifd_offset.mpo"]
    before, after = exiftool(sources), exiftool(outputs)
    assert len(before) > 400
    values = sum(len(tags) for tags in before.values())
    assert values > 15_000
    lost = [
        f"{name} {tag}: {value!r} -> {after[name].get(tag)!r}"
        for name, tags in before.items()
        for tag, value in tags.items()
        if tag not in CODING | MOVED and after[name].get(tag) != value
    ]
    assert not lost


def exiftool(folder: Path) -> dict[str, dict[str, Any]]:
    """Every value by file and group:tag, binary ones included; files that exiftool rejects are left out."""
    command = ["exiftool", "-json", "-G1", "-a", "-u", "-n", "-b", str(folder)]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    about_the_file = ("SourceFile", "System:", "ExifTool:", "File:ExifByteOrder")
    return {
        Path(row["SourceFile"]).name: {k: v for k, v in row.items() if not k.startswith(about_the_file)}
        for row in json.loads(printed)
        if "ExifTool:Error" not in row
    }
