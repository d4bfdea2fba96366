"""The table that a model's default texture is chosen by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from codiff_batch.engine import Restorer, restore_photo
from codiff_batch.metrics import psnr
from tests.photos import scene
from tests.tiny_model import SIZES, make_tiny_model
from training.evaluate import compress
from training.knob import AMOUNTS, Reading, main, read, table


def textured(folder: Path) -> Path:
    """A tiny model with texture."""
    return make_tiny_model(folder / "tiny", sizes={**SIZES, "texture": True})


@pytest.mark.slow
def test_readings_are_those_of_the_restored_photo(tmp_path: Path) -> None:
    restorer = Restorer.load(textured(tmp_path), "cpu")
    clean = np.asarray(scene(96, 64))
    readings = {reading.amount: reading for reading in read("scene", clean, 30, restorer, None)}
    jpeg = compress(clean, 30, "4:2:0")
    assert set(readings) == {None, *AMOUNTS}
    assert readings[None].gain == 0
    for amount in (0.5, 1.0):
        restored = restore_photo(jpeg, restorer, texture=amount)
        assert readings[amount].gain == pytest.approx(psnr(restored, clean) - psnr(jpeg.pixels(), clean), abs=0.02)


def test_the_table_has_the_mean_the_worst_and_the_losses() -> None:
    readings = [
        Reading(photo, 10, amount, gain, 0.2, 0.1)
        for photo, gain in (("a", 1.0), ("b", -0.5))
        for amount in (None, *AMOUNTS)
    ]
    assert "| 10 | 0.5 | +0.25 | -0.50 | 1 of 2 | 0.200 | 0.100 |" in table(readings)


@pytest.mark.slow
def test_photos_that_are_held_out_are_measured_from_the_command_line(tmp_path: Path, photos: Path) -> None:
    arguments = ["--photos", photos, "--model", textured(tmp_path), "--qf", 30]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 2 + 1 + len(AMOUNTS)
    assert "| 30 | JPEG | +0.00 | +0.00 | 0 of 1 |" in result.output
