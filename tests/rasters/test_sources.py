"""Pictures that were JPEGs once are sources too: read as stored, kept whole or refused, written in their own format."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.scan import scan
from codiff_batch.engine.photo import Decoded
from codiff_batch.errors import DamagedPicture, NotJpeg, OptionsConflict, PhotoError, TooManyPixels, UnsupportedPicture
from codiff_batch.formats import Order, encode, suffix_of
from codiff_batch.rasters.raster import Raster
from codiff_batch.rasters.source import open_source

ALL = ("jpeg", "png", "bmp", "tiff", "webp")
ORDER = Order("codiff-batch 1 model=test")
LEVELS = np.random.default_rng(7).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def saved(pixels: np.ndarray = LEVELS, format: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def opened(data: bytes, max_pixels: int = 10_000) -> Raster:
    source = open_source(data, ALL, path=None, max_pixels=max_pixels)
    assert isinstance(source, Raster)
    return source


def exif(**tags: Any) -> Image.Exif:
    block = Image.Exif()
    block[0x0112], block[0x010E] = 6, "A caption"
    return block


@pytest.mark.parametrize(
    "data",
    [saved(), saved(format="BMP"), saved(format="TIFF", compression="tiff_lzw"), saved(format="WEBP", lossless=True)],
    ids=["png", "bmp", "tiff", "webp"],
)
def test_the_pixels_of_each_kind_are_read_and_written_without_loss(data: bytes) -> None:
    source = opened(data)
    np.testing.assert_array_equal(source.pixels(), LEVELS)
    changed = 255 - LEVELS
    written = encode(changed, source, "same", ORDER)
    np.testing.assert_array_equal(opened(written).pixels(), changed)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_a_turned_picture_stays_as_stored_and_keeps_its_tag(format: str) -> None:
    source = opened(saved(format=format, exif=exif(), **({"lossless": True} if format == "WEBP" else {})))
    assert source.pixels().shape == LEVELS.shape
    with Image.open(BytesIO(encode(LEVELS, source, "same", ORDER))) as written:
        tags = written.getexif()
        assert (written.format, tags[0x0112], tags[0x010E]) == (format, 6, "A caption")


def test_a_png_keeps_the_chunks_that_are_not_about_its_pixels() -> None:
    info = PngInfo()
    info.add_text("Software", "Paint 1")
    info.add_itxt("Author", "Jürgen")
    info.add(b"gAMA", struct.pack(">I", 45455))
    info.add(b"juNK", b"not safe to copy")
    data = saved(pnginfo=info, dpi=(144, 144))
    written = encode(LEVELS, opened(data), "same", ORDER)
    with Image.open(BytesIO(written)) as image:
        image.load()
        assert image.info["Software"] == "Paint 1"
        assert image.info["Author"] == "Jürgen"
        assert image.info["gamma"] == pytest.approx(0.45455)
        assert image.info["dpi"][0] == pytest.approx(144, abs=0.1)
    assert b"juNK" not in written


def test_bmp_becomes_png_and_a_jpeg_of_a_png_is_called_jpg() -> None:
    assert encode(LEVELS, opened(saved(format="BMP")), "same", ORDER).startswith(b"\x89PNG")
    assert [suffix_of("same", ".BMP"), suffix_of("same", ".png"), suffix_of("jpeg", ".png")] == [".png", None, ".jpg"]


def test_our_note_counts_only_for_the_pixels_that_it_was_written_for() -> None:
    ours = opened(encode(LEVELS, opened(saved()), "same", ORDER))
    assert ours.metadata().restored_by is not None
    info = PngInfo()
    info.add_text("Software", ours.note or "")
    assert opened(saved(255 - LEVELS, pnginfo=info)).metadata().restored_by is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (saved(LEVELS[..., 0].astype(np.uint16) * 257), "16 bits"),
        (saved(format="TIFF", save_all=True, append_images=[Image.fromarray(LEVELS)]), "several pictures"),
        (saved(format="WEBP", quality=80), "lossy WebP"),
        (
            saved(
                format="WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(255 - LEVELS)], duration=9
            ),
            "several pictures",
        ),
        (saved(save_all=True, append_images=[Image.fromarray(255 - LEVELS)]), "several pictures"),
        (saved(transparency=(1, 2, 3)), "transparent"),
    ],
    ids=["16 bits", "pages", "lossy", "animated webp", "animated png", "transparent colour"],
)
def test_what_would_not_come_out_whole_is_refused_before_it_is_decoded(data: bytes, reason: str) -> None:
    with pytest.raises(UnsupportedPicture, match=reason):
        opened(data)


def test_a_palette_is_refused() -> None:
    buffer = BytesIO()
    Image.fromarray(LEVELS).convert("P").save(buffer, "PNG")
    with pytest.raises(UnsupportedPicture, match="palette"):
        opened(buffer.getvalue())


def test_alpha_goes_where_it_says_nothing_and_is_refused_where_it_does() -> None:
    alpha = np.dstack((LEVELS, np.full(LEVELS.shape[:2], 255, np.uint8)))
    np.testing.assert_array_equal(opened(saved(alpha)).pixels(), LEVELS)
    alpha[3, 4, 3] = 254
    with pytest.raises(UnsupportedPicture, match="transparent"):
        opened(saved(alpha)).pixels()


def test_a_picture_that_announces_too_much_is_refused_unread() -> None:
    data = bytearray(saved())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(TooManyPixels):
        opened(bytes(data))


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_broken_files_end_in_an_error_of_the_photo(format: str) -> None:
    data = saved(format=format, **({"lossless": True} if format == "WEBP" else {}))
    chance = np.random.default_rng(3)
    for _ in range(60):
        broken = bytearray(data[: chance.integers(12, len(data))] if chance.random() < 0.5 else data)
        for _ in range(4):
            broken[chance.integers(4, min(200, len(broken)))] = chance.integers(256)
        try:
            opened(bytes(broken)).pixels()
        except PhotoError as error:
            assert isinstance(error, DamagedPicture | UnsupportedPicture | TooManyPixels | NotJpeg)


def test_only_the_kinds_that_were_asked_for_are_taken(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.PNG", "c.tif", "d.txt"):
        (tmp_path / name).touch()
    assert [found.path.name for found in scan([tmp_path])] == ["a.jpg"]
    assert [found.path.name for found in scan([tmp_path], types=("png", "tiff"))] == ["b.PNG", "c.tif"]
    with pytest.raises(NotJpeg):
        open_source(saved(), ("jpeg",), path=None, max_pixels=10_000)
    with pytest.raises(NotJpeg):
        open_source(saved(format="JPEG"), ("png",), path=None, max_pixels=10_000)


def test_other_kinds_are_not_replaced_in_place(tmp_path: Path) -> None:
    with pytest.raises(OptionsConflict, match="may not keep everything"):
        BatchOptions(in_place=True, backup=tmp_path, types=("jpeg", "png")).check()


def test_a_cropped_picture_is_put_on_the_grid_of_its_compression() -> None:
    y, x = np.mgrid[:400, :400] / 9
    chance = np.random.default_rng(5).normal(0, 12, (400, 400))
    photo = np.clip(128 + 50 * np.sin(x) * np.cos(y * 1.3) + chance, 0, 255).astype(np.uint8)
    with Image.open(BytesIO(saved(photo, "JPEG", quality=20))) as jpeg:
        cropped = np.asarray(jpeg)[3:-10, 5:-20]
    decoded = Decoded.of(opened(saved(cropped), max_pixels=1_000_000))
    assert decoded.margin == (3, 5)
    np.testing.assert_array_equal(decoded.pixels[decoded.inside], cropped)


@pytest.mark.parametrize("kind", ["TIFF", "WebP"])
def test_pillow_s_own_limit_is_told_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    data = saved(np.zeros((64, 64, 3), np.uint8), kind.upper(), **({"lossless": True} if kind == "WebP" else {}))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2)
    assert Raster.from_bytes(data, kind.lower(), path=None, max_pixels=10**6).pixels().shape == (64, 64, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 - 1)
    with pytest.raises(UnsupportedPicture, match=f"more pixels than the decoder of {kind} takes"):
        Raster.from_bytes(data, kind.lower(), path=None, max_pixels=10**6)


def test_a_webp_of_more_pixels_than_its_decoder_takes_is_refused_in_words() -> None:
    size = struct.pack("<I", (16383 << 14 | 16383))
    chunk = b"VP8L" + struct.pack("<I", 25) + b"\x2f" + size + bytes(21)
    data = b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk
    with pytest.raises((UnsupportedPicture, TooManyPixels, DamagedPicture), match=r"pixels|cannot be read as WebP"):
        opened(data, 10**9)
