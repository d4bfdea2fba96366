"""Where CaVE looks."""

import numpy as np
import pytest

from codiff_batch.engine.crops import COUNT, CROP, textured_crops
from codiff_batch.engine.stream import Pixels


def test_texture_is_preferred_to_flat_ground() -> None:
    pixels = np.full((1024, 1024, 3), 128, np.uint8)
    pixels[512:, 512:] = np.random.default_rng(0).integers(0, 255, (512, 512, 3))
    crops = textured_crops(pixels)
    assert len(crops) == COUNT
    assert all(crop.shape == (CROP, CROP, 3) and crop.std() > 20 for crop in crops)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_crops_are_those_whose_middle_block_varies_most(channels: int) -> None:
    rng = np.random.default_rng(channels)
    strengths = rng.permutation(np.arange(1, 11))
    parts = [rng.normal(rng.uniform(60, 200), strength, (CROP, CROP, channels)) for strength in strengths]
    parts[int(strengths.argmin())][4:32:8] = 255  # Hard edges in a quarter of the blocks.
    pixels = np.concatenate(parts).clip(0, 255).astype(np.uint8).squeeze()

    def texture(crop: Pixels) -> float:
        gray = np.atleast_3d(crop).astype(float).mean(axis=2)
        return float(
            np.median([gray[y : y + 8, x : x + 8].std() for y in range(0, CROP, 8) for x in range(0, CROP, 8)])
        )

    expected = sorted((texture(pixels[top : top + CROP]) for top in range(0, len(pixels), CROP)), reverse=True)
    assert [texture(crop) for crop in textured_crops(pixels)] == pytest.approx(expected[:COUNT])


def test_crops_start_on_the_grid_of_the_files_blocks() -> None:
    rows, columns = np.indices((700, 900))
    pixels = ((rows % 16) + 16 * (columns % 16)).astype(np.uint8)
    assert all(crop[0, 0] == 0 for crop in textured_crops(pixels))


def test_small_pictures_are_taken_as_they_are() -> None:
    for shape in [(1, 1), (31, 400, 3), (200, 250), (127, 3000)]:
        (crop,) = textured_crops(np.zeros(shape, np.uint8))
        assert crop.shape[:2] == tuple(min(side, 256) for side in shape[:2])
