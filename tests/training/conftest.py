"""Folders of pictures that several tests train on or measure on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.photos import is_held_out


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of noise, one photo of which is held out."""
    return noise(tmp_path)


def noise(place: Path) -> Path:
    """Such a folder in another."""
    folder = place / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    held_out = next(i for i in range(1000) if is_held_out(Path(f"{i}_0.png")))
    for index in (*range(3), held_out):
        Image.fromarray(rng.integers(0, 255, (48, 48, 3)).astype(np.uint8)).save(folder / f"{index}_0.png")
    return folder


@pytest.fixture
def lossless(tmp_path: Path) -> Path:
    """A folder of smooth pictures to measure on."""
    folder = tmp_path / "lossless"
    folder.mkdir()
    for seed in range(2):
        small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 16, 3)).astype(np.uint8))
        small.resize((128, 96), Image.Resampling.BICUBIC).save(folder / f"photo{seed}.png")
    return folder
