"""What the bundled model adds to its faithful restoration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codiff_batch.engine import Restorer, restore_photo
from codiff_batch.networks.texture import repeating
from codiff_batch.perceptual import Perceptual
from training.evaluate import Contestants, compress, lossless_photos, measure
from training.scorecard import by_qf

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "photos"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LIVE1, NETWORKS = SHARED / "test" / "LIVE1_color", SHARED / "networks"


@pytest.fixture(scope="module")
def compact() -> Restorer:
    return Restorer.load("compact", "cpu")


@pytest.mark.slow
def test_its_card_says_how_texture_was_trained_and_its_default_chosen(compact: Restorer) -> None:
    assert {"data", "steps", "minutes", "seed", "losses"} <= set(compact.card.training["texture"])
    assert f"{compact.card.texture:g}, chosen" in compact.card.training["texture_default"]


@pytest.mark.slow
def test_without_texture_it_is_the_fast_model(compact: Restorer) -> None:
    photo = compress(np.asarray(Image.open(EXAMPLES / "strudel-fine-q95.jpg"))[:128, :160], 20, "4:2:0")
    assert np.array_equal(restore_photo(photo, compact, texture=0), restore_photo(photo, Restorer.load("fast", "cpu")))


@pytest.mark.slow
def test_it_weaves_no_pattern_into_a_smooth_sky(compact: Restorer) -> None:
    """An eye sees one of a level or two, where nothing else is to be seen."""
    down = np.linspace(0, 1, 256)[:, None, None]
    sky = np.broadcast_to(np.array([90, 140, 200]) + down * np.array([80, 60, 40]), (256, 256, 3))
    pixels = compress(sky.round().astype(np.uint8), 10, "4:2:0").pixels()
    added = compact.restore_levels(pixels, texture=1) - compact.restore_levels(pixels, texture=0)
    middle = torch.from_numpy(added).permute(2, 0, 1)[None, :, 48:-48, 48:-48]
    for period in (4, 8, 16):
        assert repeating(middle, period).std() < 0.5


@pytest.mark.slow
def test_its_card_promises_pictures_that_are_nearer_to_the_originals_and_look_more_like_them(compact: Restorer) -> None:
    """As measured by ``training.evaluate``: on all of LIVE1 by PSNR, on crops of it by LPIPS and DISTS."""
    scores = compact.card.scores
    assert all(row["worst_gain"] > 0 for row in scores["LIVE1"]["by_qf"].values())
    for qf, row in scores["LIVE1 crops"]["by_qf"].items():
        faithful = scores["LIVE1 crops, texture 0"]["by_qf"][qf]
        for metric in ("lpips", "dists"):
            assert row[metric] < row[f"{metric}_jpeg"]
            assert row[metric] < faithful[metric]


@pytest.mark.slow
@pytest.mark.skipif(not (LIVE1.is_dir() and NETWORKS.is_dir()), reason="needs LIVE1 and the metrics' backbones")
def test_crops_of_live1_look_as_much_like_the_originals_as_its_card_says(compact: Restorer) -> None:
    """Measured again with ``--every 6 --crop 128 --texture 0 --texture 1``, at two qualities."""
    contestants, perceptual = Contestants((compact,), textures=(None, 0, 1)), Perceptual(NETWORKS)
    scores = [
        score
        for qf in (5, 20)
        for photo in lossless_photos(LIVE1, every=6, crop=128)
        for score in measure(photo, qf, "4:2:0", contestants, constrain=True, perceptual=perceptual)
    ]
    for suffix in ("", ", texture 0", ", texture 1"):
        told = compact.card.scores["LIVE1 crops" + suffix]["by_qf"]
        for qf, row in by_qf(scores, "compact" + suffix).items():
            assert row == pytest.approx(told[qf], abs=0.021), (suffix, qf)
