"""Metadata from source to output: byte for byte, nothing lost but what the docs name."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codiff_batch.errors import UnsupportedJpeg
from codiff_batch.jpeg import JpegPhoto, Segment, encode_jpeg, refuse_jpeg
from codiff_batch.jpeg.metadata import XMP
from tests.jpeg.samples import NOTE, adobe, decodable, jpeg, multi_picture_index, picture, with_segments

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


def test_pixels_of_another_size_are_a_programming_error() -> None:
    photo = JpegPhoto.from_bytes(jpeg())
    with pytest.raises(ValueError, match="104x72"):
        encode_jpeg(photo.pixels()[:-1], photo, note=NOTE)


@pytest.mark.parametrize("kilobytes", [0, 60])
def test_a_multi_picture_index_points_at_the_second_picture_again(kilobytes: int) -> None:
    first, second = jpeg(quality=20), jpeg(picture(16, 24), quality=90)
    before = Segment(0xED, bytes(kilobytes * 1024))
    start = with_segments(first, before, multi_picture_index(0, 0, len(second)))
    base = start.index(b"MPF\0") + 4
    index = multi_picture_index(len(start) - base, len(start), len(second))
    source = with_segments(first, before, index, trailer=second)
    with Image.open(BytesIO(restored(source).data)) as pictures:
        assert getattr(pictures, "n_frames", 1) == 2
        pictures.seek(1)
        assert pictures.size == (24, 16)
        assert np.array_equal(np.asarray(pictures), JpegPhoto.from_bytes(second).pixels())


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


@pytest.mark.parametrize("marker", [0xE1, 0xEE])
def test_metadata_is_carried_in_whatever_segment_it_stands(marker: int) -> None:
    packet = (marker, XMP + b"<x:xmpmeta/>")
    assert packet in carried(restored(with_segments(jpeg(), Segment(*packet))))


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


def test_the_note_counts_while_the_picture_is_the_one_that_was_restored() -> None:
    output = restored(jpeg())
    retouched = with_segments(output.data, Segment(0xFE, b"a caption"))
    assert JpegPhoto.from_bytes(retouched).metadata().restored_by
    for options in ({"quality": 8, "subsampling": 0}, {"quality": 95, "subsampling": 0}, {"quality": 40}):
        saved_again = jpeg(output.pixels(), comment=carried(output)[-1][1], **options)
        assert JpegPhoto.from_bytes(saved_again).metadata().restored_by is None


def test_notes_of_the_first_version_count_with_the_tables_that_it_wrote() -> None:
    note = b"codiff-batch 0.1.0 model=compact qf=19"
    for quality, counts in ((95, True), (94, False), (8, False)):
        data = jpeg(quality=quality, subsampling=0, comment=note)
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
