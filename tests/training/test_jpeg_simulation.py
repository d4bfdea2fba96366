"""The simulation gives libjpeg's own pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from training.degradation import compress
from training.jpeg_simulation import Sampling, simulate
from training.recipe import Encoding, camera_encodings

CODES: dict[Sampling, int] = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def pictures() -> list[np.ndarray]:
    """Smooth colours, hard edges, pure noise, and black and white."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8))
    smooth = np.asarray(small.resize((128, 96), Image.Resampling.BICUBIC))
    edges = np.asarray(small.resize((128, 96), Image.Resampling.NEAREST))
    noise = rng.integers(0, 256, (96, 128, 3)).astype(np.uint8)
    extreme = np.where(rng.random((96, 128, 1)) < 0.5, 0, 255).astype(np.uint8).repeat(3, 2)
    return [smooth, edges, noise, extreme]


def simulated(pixels: np.ndarray, tables: np.ndarray, sampling: Sampling) -> np.ndarray:
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    return simulate(image, torch.from_numpy(tables.astype(np.int32))[None], sampling)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("sampling", CODES)
@pytest.mark.parametrize("qf", [1, 5, 10, 25, 50, 75, 90, 95, 100])
def test_pixels_are_libjpegs_within_a_level(sampling: Sampling, qf: int) -> None:
    for pixels in pictures():
        decoded, tables = compress(pixels, Encoding(qf, CODES[sampling]))
        difference = np.abs(simulated(pixels, tables, sampling).astype(int) - decoded)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.001


def test_tables_of_cameras_work_as_well_and_each_image_has_its_own() -> None:
    pixels, encodings = pictures()[0], camera_encodings()[:4]
    expected, tables = zip(*(compress(pixels, encoding) for encoding in encodings), strict=True)
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].expand(4, -1, -1, -1)
    got = simulate(images, torch.from_numpy(np.stack(tables).astype(np.int32)), "4:4:4").permute(0, 2, 3, 1).numpy()
    assert np.abs(got.astype(int) - np.stack(expected)).max() <= 1


def test_sides_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of the MCU"):
        simulate(torch.zeros(1, 3, 24, 24, dtype=torch.uint8), torch.ones(1, 2, 8, 8), "4:2:0")
