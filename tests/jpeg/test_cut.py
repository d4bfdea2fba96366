"""A rectangle of a photo has the photo's own blocks."""

from __future__ import annotations

from pathlib import Path

import jpeglib
import numpy as np
import pytest

from codiff_batch.errors import DamagedJpeg
from codiff_batch.jpeg import JpegPhoto, cut, project_to_cells
from tests.jpeg.samples import jpeg, picture


def photo_of(sampling: str, folder: Path) -> JpegPhoto:
    """109 rows and 139 columns, by libjpeg."""
    image = jpeglib.from_spatial(picture(109, 139))
    image.samp_factor = sampling
    image.write_spatial(str(folder / "x.jpg"), qt=30)
    return JpegPhoto.from_bytes((folder / "x.jpg").read_bytes())


WINDOWS = [
    (slice(0, 109), slice(0, 139)),
    (slice(32, 64), slice(64, 96)),
    (slice(16, 109), slice(32, 64)),
    (slice(64, 80), slice(96, 139)),
    (slice(96, 109), slice(128, 139)),
]


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1"])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_cut_is_like_a_photo_of_that_part_alone(sampling: str, window: tuple[slice, slice], tmp_path: Path) -> None:
    photo = photo_of(sampling, tmp_path)
    part = cut(photo, photo.coefficients(), window)
    pixels = photo.pixels()[window]
    assert (part.header.height, part.header.width) == pixels.shape[:2]
    alone = jpeglib.from_spatial(np.ascontiguousarray(pixels))
    alone.samp_factor = sampling
    alone.write_spatial(str(tmp_path / "alone.jpg"), qt=30)
    expected = JpegPhoto.from_bytes((tmp_path / "alone.jpg").read_bytes()).coefficients()
    assert [plane.shape for plane in part.coefficients()] == [plane.shape for plane in expected]
    for ours, whole, component in zip(part.coefficients(), photo.coefficients(), photo.header.components, strict=True):
        (h, v), (rows, columns) = photo.header.max_sampling, window
        top, left = rows.start // (8 * v) * component.v, columns.start // (8 * h) * component.h
        assert np.array_equal(ours, whole[top : top + len(ours), left : left + ours.shape[1]])


@pytest.mark.parametrize("sampling", ["4:2:2", "4:2:0"])
def test_a_cut_is_projected_as_it_is_in_the_whole(sampling: str) -> None:
    photo = JpegPhoto.from_bytes(jpeg(picture(109, 139), quality=30, subsampling=sampling))
    levels = (photo.pixels() + np.random.default_rng(3).normal(0, 8, (109, 139, 3))).clip(0, 255).astype(np.float32)
    whole = project_to_cells(levels.copy(), photo)
    for window in WINDOWS[1:]:
        part = project_to_cells(levels[window].copy(), cut(photo, photo.coefficients(), window))
        assert np.mean(part != whole[window]) < 0.005


def test_a_cut_keeps_nothing_of_the_whole_photos_blocks_alive() -> None:
    photo = JpegPhoto.from_bytes(jpeg())
    blocks = photo.coefficients()
    part = cut(photo, blocks, (slice(0, 16), slice(0, 16)))
    assert not any(np.shares_memory(ours, whole) for ours, whole in zip(part.coefficients(), blocks, strict=True))


def test_a_cut_of_a_photo_without_readable_blocks_says_so() -> None:
    part = cut(JpegPhoto.from_bytes(jpeg()), None, (slice(0, 16), slice(32, 48)))
    assert (part.header.height, part.header.width) == (16, 16)
    with pytest.raises(DamagedJpeg, match="coefficients cannot be read"):
        part.coefficients()
