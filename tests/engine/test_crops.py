"""Where CaVE looks."""

import numpy as np

from codiff_batch.engine.crops import COUNT, CROP, textured_crops


def test_texture_is_preferred_to_flat_ground() -> None:
    pixels = np.full((1024, 1024, 3), 128, np.uint8)
    pixels[512:, 512:] = np.random.default_rng(0).integers(0, 255, (512, 512, 3))
    crops = textured_crops(pixels)
    assert len(crops) == COUNT
    assert all(crop.shape == (CROP, CROP, 3) and crop.std() > 20 for crop in crops)


def test_crops_start_on_the_grid_of_the_files_blocks() -> None:
    rows, columns = np.indices((700, 900))
    pixels = ((rows % 16) + 16 * (columns % 16)).astype(np.uint8)
    assert all(crop[0, 0] == 0 for crop in textured_crops(pixels))


def test_small_pictures_are_taken_as_they_are() -> None:
    for shape in [(1, 1), (31, 400, 3), (200, 250), (127, 3000)]:
        (crop,) = textured_crops(np.zeros(shape, np.uint8))
        assert crop.shape[:2] == tuple(min(side, 256) for side in shape[:2])
