"""The promise of the constraint: compressed again, the result gives the source's coefficients back."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from codiff_batch.errors import DamagedJpeg
from codiff_batch.jpeg import JpegPhoto, can_project, project_to_cells
from tests.jpeg.samples import decodable, jpeg, picture


def invented(photo: JpegPhoto) -> NDArray[np.float32]:
    """A bold restoration: noise about as large as the quantization steps, so that many cells are left."""
    pixels = photo.pixels()
    noise = np.random.default_rng(3).normal(0, min(60, np.median(photo.header.tables[0])), pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.float32)


def compressed_like(photo: JpegPhoto, pixels: NDArray[np.uint8]) -> JpegPhoto:
    """The pixels by libjpeg, with the photo's own tables and sampling."""
    tables = [table.ravel().tolist() for table in photo.header.tables[:2]]
    options = {"subsampling": photo.header.sampling} if len(tables) == 2 else {}
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", qtables=tables, **options)
    again = JpegPhoto.from_bytes(buffer.getvalue())
    for ours, theirs in zip(again.header.tables, photo.header.tables, strict=True):
        assert np.array_equal(ours, theirs)
    return again


def share_kept(photo: JpegPhoto, again: JpegPhoto, *, inner: bool = False) -> float:
    """Share of equal coefficients; inner: without the last row and column of blocks."""
    stop = -1 if inner else None
    pairs = zip(photo.coefficients(), again.coefficients(), strict=True)
    same = [(a[:stop, :stop] == b[:stop, :stop]).ravel() for a, b in pairs]
    return float(np.concatenate(same).mean())


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0", "gray"])
@pytest.mark.parametrize("quality", [5, 10, 30, 60])
def test_the_source_s_coefficients_come_back(sampling: str, quality: int) -> None:
    gray = sampling == "gray"
    options = {} if gray else {"subsampling": sampling}
    photo = JpegPhoto.from_bytes(jpeg(picture(272, 320, gray=gray), quality=quality, **options))
    bold = invented(photo)
    assert share_kept(photo, compressed_like(photo, np.rint(bold).astype(np.uint8))) < 0.999
    result = project_to_cells(bold, photo)
    assert result.dtype == np.uint8 and result.shape == photo.pixels().shape
    assert share_kept(photo, compressed_like(photo, result)) > 0.999


@pytest.mark.parametrize("size", [(203, 301), (92, 108)], ids=["odd", "even"])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_blocks_beyond_the_border_are_met_nearly_and_all_others_fully(sampling: str, size: tuple[int, int]) -> None:
    photo = JpegPhoto.from_bytes(jpeg(picture(*size), quality=30, subsampling=sampling))
    again = compressed_like(photo, project_to_cells(invented(photo), photo))
    assert share_kept(photo, again, inner=True) > 0.9999
    assert share_kept(photo, again) > 0.9995


def test_fine_tables_are_met_less_fully() -> None:
    photo = JpegPhoto.from_bytes(jpeg(picture(256, 256), quality=80))
    again = compressed_like(photo, project_to_cells(invented(photo), photo))
    assert share_kept(photo, again) > 0.998


def test_progressive_sources_are_met_as_well() -> None:
    photo = JpegPhoto.from_bytes(jpeg(picture(128, 128), quality=20, progressive=True))
    again = compressed_like(photo, project_to_cells(invented(photo), photo))
    assert share_kept(photo, again) > 0.999


def test_a_picture_inside_its_cells_is_hardly_touched() -> None:
    original = picture(128, 128)
    photo = JpegPhoto.from_bytes(jpeg(original, quality=30, subsampling=0))
    result = project_to_cells(original.astype(np.float32), photo)
    assert np.abs(result.astype(int) - original).mean() < 0.5


def test_many_bands_are_met_as_well_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codiff_batch.jpeg.arrays.Numpy.pixels_at_a_time", 1)
    photo = JpegPhoto.from_bytes(jpeg(picture(160, 96), quality=20, subsampling=2))
    again = compressed_like(photo, project_to_cells(invented(photo), photo))
    assert share_kept(photo, again) > 0.999


def test_plain_samplings_can_be_projected() -> None:
    for options in ({"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}):
        assert can_project(JpegPhoto.from_bytes(jpeg(**options)))


@pytest.mark.parametrize("gray", [False, True])
def test_the_decoder_s_own_pixels_agree(gray: bool) -> None:
    for options in ({}, {"quality": 5}, {"subsampling": 0}, {"progressive": True}, {"keep_rgb": True}):
        photo = JpegPhoto.from_bytes(jpeg(picture(gray=gray), **({} if gray else options)))
        project_to_cells(photo.pixels().astype(np.float32), photo, photo.pixels())


def test_a_header_that_the_decoder_reads_otherwise_is_noticed() -> None:
    photo = JpegPhoto.from_bytes(jpeg(quality=40))
    tables = tuple(table * 2 for table in photo.header.tables)
    for header in (replace(photo.header, tables=tables), replace(photo.header, colour="rgb")):
        with pytest.raises(DamagedJpeg, match="do not match"):
            project_to_cells(photo.pixels().astype(np.float32), replace(photo, header=header), photo.pixels())


@pytest.mark.slow
def test_every_photo_of_the_corpus_is_read_as_its_decoder_reads_it(corpus: list[Path]) -> None:
    wrong = []
    for photo, pixels in decodable(corpus):
        if can_project(photo) and pixels.size < 100_000:
            try:
                project_to_cells(pixels.astype(np.float32), photo, pixels)
            except DamagedJpeg as error:
                wrong.append(f"{photo.path}: {error}")
    assert not wrong
