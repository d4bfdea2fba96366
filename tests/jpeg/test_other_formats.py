"""PNG, WebP and TIFF outputs: the pixels, and the metadata that these formats can hold."""

from __future__ import annotations

import json
import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import piexif
import pytest
from PIL import Image, ImageCms

from codiff_batch.jpeg import JpegPhoto, Segment, encode_as
from tests.jpeg.samples import NOTE, decodable, jpeg, picture, with_segments

Format = Literal["png", "webp", "tiff"]
EXIF = piexif.dump({"0th": {0x0112: 6, 0x0110: b"A camera"}, "Exif": {0x9003: b"2020:01:02 03:04:05"}})
FORMATS = pytest.mark.parametrize("kind", ["png", "webp", "tiff"])


def encoded(data: bytes, kind: Format) -> Image.Image:
    photo = JpegPhoto.from_bytes(data)
    return Image.open(BytesIO(encode_as(photo.pixels(), photo, kind, note=NOTE)))


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("gray", [False, True])
def test_png_and_tiff_are_lossless(kind: Format, gray: bool) -> None:
    data = jpeg(picture(gray=gray))
    assert np.array_equal(np.asarray(encoded(data, kind)), JpegPhoto.from_bytes(data).pixels())


@FORMATS
def test_the_colour_profile_travels(kind: Format) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert encoded(jpeg(icc_profile=profile), kind).info["icc_profile"] == profile


@FORMATS
def test_exif_travels_and_orientation_stays_a_tag(kind: Format, tmp_path: Path) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    photo = JpegPhoto.from_bytes(jpeg(exif=EXIF))
    path = tmp_path / f"photo.{kind}"
    path.write_bytes(encode_as(photo.pixels(), photo, kind, note=NOTE))
    asked = ["-Orientation", "-Model", "-DateTimeOriginal", "-ImageWidth"]
    printed = subprocess.run(["exiftool", "-json", "-n", *asked, str(path)], capture_output=True, text=True, check=True)
    tags: dict[str, Any] = json.loads(printed.stdout)[0]
    assert {tag: tags.get(tag[1:]) for tag in asked} == {
        "-Orientation": 6,
        "-Model": "A camera",
        "-DateTimeOriginal": "2020:01:02 03:04:05",
        "-ImageWidth": 104,
    }


@FORMATS
def test_damaged_exif_does_not_stop_the_output(kind: Format) -> None:
    data = with_segments(jpeg(), Segment(0xE1, b"Exif\0\0\xff\xff\xff\xff\0\0\0\x08damaged"))
    assert encoded(data, kind).size == (104, 72)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_every_decodable_file_of_the_corpus_can_be_written(kind: Format, corpus: list[Path]) -> None:
    for photo, pixels in decodable(corpus):
        if pixels.shape[0] * pixels.shape[1] > 300_000:
            continue
        encode_as(pixels, photo, kind, note=NOTE)
