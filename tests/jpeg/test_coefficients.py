"""Quantized coefficients: the right way round, and the very numbers that decoders turn into pixels."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jpeglib
import numpy as np
import pytest

from codiff_batch.errors import DamagedJpeg, UnsupportedJpeg
from codiff_batch.jpeg import JpegPhoto, Segment, Structure, blocks_of, can_project
from codiff_batch.jpeg.segments import parse
from tests.jpeg.samples import decodable, jpeg, picture, with_frame


def test_rows_are_vertical_frequencies() -> None:
    ramp = np.tile(np.linspace(0, 255, 64), (64, 1)).astype(np.uint8)
    (across,) = JpegPhoto.from_bytes(jpeg(ramp, quality=95)).coefficients()
    (down,) = JpegPhoto.from_bytes(jpeg(ramp.T.copy(), quality=95)).coefficients()
    assert across[3, 3, 0, 1] != 0 and across[3, 3, 1, 0] == 0
    assert down[3, 3, 1, 0] != 0 and down[3, 3, 0, 1] == 0


@pytest.mark.parametrize("progressive", [False, True])
def test_dequantized_and_transformed_they_are_the_pixels(progressive: bool) -> None:
    photo = JpegPhoto.from_bytes(jpeg(picture(70, 99, gray=True), progressive=progressive))
    (blocks,) = photo.coefficients()
    frequency, position = np.mgrid[0:8, 0:8]
    basis = np.cos((2 * position + 1) * frequency * np.pi / 16) * np.where(frequency == 0, 8**-0.5, 0.5)
    tiles = basis.T @ (blocks * photo.header.tables[0].astype(float)) @ basis + 128
    plane = tiles.swapaxes(1, 2).reshape(tiles.shape[0] * 8, -1)[:70, :99]
    assert np.abs(plane.clip(0, 255) - photo.pixels()).max() < 1.5


def test_there_are_as_many_blocks_as_cover_each_component() -> None:
    photo = JpegPhoto.from_bytes(jpeg(picture(41, 83), subsampling=2))
    assert [plane.shape[:2] for plane in photo.coefficients()] == [(6, 11), (3, 6), (3, 6)]


def test_photos_are_read_in_threads_and_leave_no_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    photos = [JpegPhoto.from_bytes(jpeg(quality=10 + 5 * number)) for number in range(12)]
    alone = [photo.coefficients() for photo in photos]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(JpegPhoto.coefficients, photos * 5))
    for number, planes in enumerate(together):
        for plane, expected in zip(planes, alone[number % 12], strict=True):
            assert np.array_equal(plane, expected)
    assert not list(tmp_path.iterdir())


def test_the_library_reads_headers_of_one_file_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps their markers in variables of its own, so that a second one crashes the program: rarely."""
    inside, together = threading.Semaphore(1), []
    read = jpeglib.read_dct

    def slowly(name: str) -> object:
        together.append(not inside.acquire(blocking=False))
        time.sleep(0.01)
        inside.release()
        return read(name)

    monkeypatch.setattr(jpeglib, "read_dct", slowly)
    photos = [JpegPhoto.from_bytes(jpeg(quality=10 + 5 * number)) for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(JpegPhoto.coefficients, photos))
    assert together == [False] * 8


def without_huffman_tables(data: bytes, *instead: Segment) -> bytes:
    kept = [segment for segment in parse(data).segments if segment.marker != 0xC4]
    return Structure((*kept[:-2], *instead, *kept[-2:]), b"").emit()


@pytest.mark.parametrize("data", [with_frame(jpeg(), 0xC9), without_huffman_tables(jpeg())], ids=["arithmetic", "none"])
def test_where_there_are_no_huffman_tables_none_are_read(data: bytes) -> None:
    photo = JpegPhoto.from_bytes(data)
    assert not can_project(photo) and blocks_of(photo, np.zeros((72, 104, 3), np.uint8)) is None
    with pytest.raises(UnsupportedJpeg, match="Huffman"):
        photo.coefficients()


def test_damage_and_another_size_than_the_headers_are_told() -> None:
    damaged = JpegPhoto.from_bytes(without_huffman_tables(jpeg(), Segment(0xC4, b"\0")))
    with pytest.raises(DamagedJpeg, match="cannot be read"):
        damaged.coefficients()
    photo = JpegPhoto.from_bytes(jpeg())
    taller = replace(photo, header=replace(photo.header, height=photo.header.height + 8))
    with pytest.raises(DamagedJpeg, match="geometry"):
        taller.coefficients()


@pytest.mark.slow
def test_what_can_be_decoded_and_projected_has_readable_coefficients(corpus: list[Path]) -> None:
    unreadable = []
    for photo, _ in decodable(corpus):
        if can_project(photo):
            try:
                photo.coefficients()
            except DamagedJpeg:
                unreadable.append(photo.path)
    assert not unreadable
