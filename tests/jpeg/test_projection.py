"""The constraint, compared with the same rule written for one MCU at a time in double precision."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import jpeglib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from codiff_batch.errors import DamagedJpeg
from codiff_batch.jpeg import JpegPhoto, blocks_of, can_project, cut, project_to_cells
from tests.jpeg.samples import jpeg, picture

Reals = NDArray[np.float64]

TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136286, -0.714136286], [1, 1.772, 0]])
TO_YCBCR = np.linalg.inv(TO_RGB).astype(np.float32)


class Mcu:
    """One MCU of a photo, or what of it lies within the picture."""

    def __init__(
        self, photo: JpegPhoto, coefficients: Sequence[NDArray[np.int16]], row: int, column: int, pixels: Reals
    ) -> None:
        self.pixels, self.ycbcr = pixels, photo.header.colour == "ycbcr"
        self.height, self.width = pixels.shape[:2]
        h, v = photo.header.max_sampling
        self.folds = [(v // c.v, h // c.h) for c in photo.header.components]
        self.middles, self.steps = [], []
        parts = zip(photo.header.components, coefficients, photo.header.tables, strict=True)
        for fold, (c, blocks, table) in zip(self.folds, parts, strict=True):
            down, across = -(-self.height // (8 * fold[0])), -(-self.width // (8 * fold[1]))
            own = blocks[row * c.v : row * c.v + down, column * c.h : column * c.h + across]
            self.steps.append(np.broadcast_to(table.astype(float), own.shape))
            self.middles.append(own * self.steps[-1])

    def encoded(self, pixels: Reals, *, rounds: bool) -> list[Reals]:
        """What libjpeg makes of the pixels, short of quantization: blocks (down, across, 8, 8) of each component."""
        planes = pixels
        if self.ycbcr:
            # In single precision: luma of whole numbers is a tie once in a thousand times, and must be the same one.
            red, green, blue = np.moveaxis(pixels.astype(np.float32), 2, 0)[..., None]
            shifted = red * TO_YCBCR[:, 0] + green * TO_YCBCR[:, 1] + blue * TO_YCBCR[:, 2] - np.float32([128, 0, 0])
            planes = (shifted.round() if rounds else shifted).astype(float) + 128
        found = []
        for index, (fold_v, fold_h) in enumerate(self.folds):
            plane = planes[..., index] - 128
            wide = -(-self.width // (8 * fold_h)) * 8 * fold_h
            plane = np.pad(plane, ((0, -self.height % fold_v), (0, wide - self.width)), mode="edge")
            plane = plane.reshape(len(plane) // fold_v, fold_v, wide // fold_h, fold_h).mean(axis=(1, 3))
            plane = np.pad(plane, ((0, -len(plane) % 8), (0, 0)), mode="edge")
            blocks = plane.reshape(len(plane) // 8, 8, plane.shape[1] // 8, 8).swapaxes(1, 2)
            found.append(dctn(blocks, axes=(2, 3), norm="ortho"))
        return found

    def decoded(self, index: int, blocks: Reals) -> Reals:
        """Samples of a component; what the padding has is folded onto the samples that it repeats, as their mean."""
        plane = idctn(blocks, axes=(2, 3), norm="ortho").swapaxes(1, 2).reshape(len(blocks) * 8, -1)
        for fold, length in zip(self.folds[index], (self.height, self.width), strict=True):
            own = -(-length // fold)
            plane = np.concatenate([plane[: own - 1], plane[own - 1 :].mean(axis=0, keepdims=True)])
            plane = plane.repeat(fold, axis=0)[:length].T
        return plane

    def projected(self) -> Reals:
        """Four projections, each rounded; done where all coefficients are a tenth of a level inside their cells."""
        pixels = rounded = self.pixels
        fine = [step < 3 for step in self.steps]
        reaches = [
            step / 2 - np.where(small, 0, np.minimum(1, 0.45 * step / 2))
            for step, small in zip(self.steps, fine, strict=True)
        ]
        before: list[Reals] = []
        for attempt in range(4):
            found = self.encoded(rounded, rounds=attempt > 0)
            deviations = [blocks - middle for blocks, middle in zip(found, self.middles, strict=True)]
            if attempt:
                far = zip(deviations, self.steps, fine, strict=True)
                if not any((~small & (abs(d) > step / 2 - 0.1)).any() for d, step, small in far):
                    break
                beyond = [abs(d) > step / 2 for d, step in zip(before, self.steps, strict=True)]
                reaches = [np.where(out, reach / 2, reach) for reach, out in zip(reaches, beyond, strict=True)]
            for index, (deviation, reach) in enumerate(zip(deviations, reaches, strict=True)):
                excess = deviation - deviation.clip(-reach, reach)
                change = self.decoded(index, np.where(fine[index] & (attempt > 0), 0, excess))
                weights = TO_RGB[:, index] if self.ycbcr else np.eye(len(self.folds))[:, index]
                pixels = pixels - change[..., None] * weights
            before, rounded = deviations, pixels.round().clip(0, 255)
        return rounded


def slowly_projected(levels: NDArray[np.float32], photo: JpegPhoto) -> Reals:
    """Every MCU on its own."""
    levels = levels.reshape(*levels.shape[:2], -1).astype(float)
    h, v = photo.header.max_sampling
    result, coefficients = levels.copy(), photo.coefficients()
    for row, column in product(range(-(-len(levels) // (8 * v))), range(-(-levels.shape[1] // (8 * h)))):
        place = slice(row * 8 * v, (row + 1) * 8 * v), slice(column * 8 * h, (column + 1) * 8 * h)
        result[place] = Mcu(photo, coefficients, row, column, levels[place]).projected()
    return result


def photo_of(kind: str, size: tuple[int, int], quality: int, folder: Path) -> JpegPhoto:
    """A JPEG of this kind and size, by libjpeg."""
    if kind in ("gray", "rgb"):
        data = jpeg(
            picture(*size, gray=kind == "gray"), quality=quality, **({"keep_rgb": True} if kind == "rgb" else {})
        )
    else:
        image = jpeglib.from_spatial(picture(*size))
        image.samp_factor = kind
        image.write_spatial(str(folder / "x.jpg"), qt=quality)
        data = (folder / "x.jpg").read_bytes()
    photo = JpegPhoto.from_bytes(data)
    assert photo.header.sampling == ("4:4:4" if kind == "rgb" else kind)
    return photo


def bold(photo: JpegPhoto) -> NDArray[np.float32]:
    """Levels that leave many cells, on both sides."""
    pixels = photo.pixels()
    noise = np.random.default_rng(3).normal(0, 2 + np.median(photo.header.tables[0]) / 4, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(48, 80), (45, 75), (25, 41), (5, 7)], ids=["whole", "odd", "just over", "tiny"])
@pytest.mark.parametrize("kind", ["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "gray", "rgb"])
def test_each_mcu_is_projected_as_the_rule_says(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    for quality in {(48, 80): (8, 92), (45, 75): (40, 92)}.get(size, (8, 40)):
        photo = photo_of(kind, size, quality, tmp_path)
        levels = bold(photo)
        expected = slowly_projected(levels, photo)
        off = np.abs(project_to_cells(levels, photo).reshape(expected.shape) - expected)
        assert (off > 0).mean() < 0.02


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height() -> None:
    def beyond_the_levels(height: int) -> int:
        photo = JpegPhoto.from_bytes(jpeg(picture(height, 256, gray=True), quality=30))
        levels, known = photo.pixels().astype(np.float32), photo.coefficients()
        whole = cut(photo, known, (slice(0, height), slice(0, 256)))
        tracemalloc.start()
        try:
            result = project_to_cells(levels, whole)
            return tracemalloc.get_traced_memory()[1] - result.nbytes
        finally:
            tracemalloc.stop()

    assert beyond_the_levels(4096) < 1.1 * beyond_the_levels(1024)


def flat(columns: int, rows: int = 1, *, level: int = 100, colours: bool = False) -> JpegPhoto:
    """Blocks of one level, which the coefficients give exactly."""
    shape = (8 * rows, 8 * columns, 3) if colours else (8 * rows, 8 * columns)
    photo = JpegPhoto.from_bytes(jpeg(np.full(shape, level, np.uint8), quality=100))
    assert (photo.pixels() == level).all()
    return photo


def is_believed(photo: JpegPhoto, pixels: NDArray[np.uint8]) -> bool:
    try:
        project_to_cells(pixels.astype(np.float32), photo, pixels)
    except DamagedJpeg:
        assert blocks_of(photo, pixels) is None
        return False
    assert blocks_of(photo, pixels) is not None
    return True


@pytest.mark.parametrize("colours", [False, True])
def test_a_block_may_differ_by_less_than_two_levels_in_the_mean(colours: bool) -> None:
    photo = flat(3, colours=colours)
    shown = photo.pixels().copy()
    shown[:, 8:16] += 2
    shown[0, 8] -= 1
    assert is_believed(photo, shown)
    shown[0, 8] += 2
    assert not is_believed(photo, shown)


@pytest.mark.parametrize(
    ("level", "counts"), [(0, False), (1, False), (2, True), (253, True), (254, False), (255, False)]
)
def test_a_block_with_a_sample_at_the_end_of_the_scale_does_not_count(level: int, counts: bool) -> None:
    for colours in (False, True):
        photo = flat(2, colours=colours)
        shown = photo.pixels().copy()
        shown[:, 8:] += 9
        shown[(3, 12, 1) if colours else (3, 12)] = level
        assert is_believed(photo, shown) is not counts


@pytest.mark.parametrize("place", [(0, 0), (30, 32), (29, 31), (30, 31), (29, 32)])
def test_of_a_thousand_blocks_each_is_compared(place: tuple[int, int]) -> None:
    photo = flat(33, 31)
    shown = photo.pixels().copy()
    row, column = place
    shown[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 3
    assert not is_believed(photo, shown)


@pytest.mark.parametrize(("columns", "rows", "step"), [(32, 32, 2), (80, 64, 4)])
def test_of_more_blocks_those_of_a_lattice_are_compared(columns: int, rows: int, step: int) -> None:
    photo = flat(columns, rows)
    for row, column in ((0, 0), (step, step), (rows - step, columns - step)):
        shown = photo.pixels().copy()
        shown[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 3
        assert not is_believed(photo, shown)
    shown = photo.pixels().copy() + np.uint8(3)
    blocks = shown.reshape(rows, 8, columns, 8).swapaxes(1, 2)
    blocks[::step, ::step] -= 3
    assert is_believed(photo, shown)


def test_luma_is_compared_before_an_encoder_would_round_it() -> None:
    photo = flat(1, colours=True)
    shown = photo.pixels().copy()
    shown[..., 2] += 17  # 1.94 levels of luma
    shown[0, :4, 2] += 5
    assert is_believed(photo, shown)


def test_luma_that_is_sampled_less_than_chroma_is_not_compared() -> None:
    photo = JpegPhoto.from_bytes(jpeg(picture(32, 32), subsampling="4:4:4"))
    luma, *chroma = photo.header.components
    components = (luma, *(replace(component, h=2) for component in chroma))
    coarse = replace(photo, header=replace(photo.header, width=64, components=components))
    first, *rest = photo.coefficients()
    blocks = (first, *(plane.repeat(2, axis=1) for plane in rest))
    assert is_believed(cut(coarse, blocks, (slice(0, 32), slice(0, 64))), np.full((32, 64, 3), 100, np.uint8))


def test_samplings_that_are_no_whole_numbers_cannot_be_projected() -> None:
    photo = JpegPhoto.from_bytes(jpeg(picture(32, 32)))
    luma, *chroma = photo.header.components
    for odd in ({"h": 2, "v": 3}, {"h": 3, "v": 2}):
        components = (replace(luma, h=odd["h"], v=odd["v"]), *(replace(c, h=2, v=2) for c in chroma))
        strange = replace(photo, header=replace(photo.header, components=components))
        assert not can_project(strange) and blocks_of(strange, photo.pixels()) is None
