"""The metrics of the tables, against values that follow from their definitions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from codiff_batch.jpeg import JpegPhoto
from codiff_batch.perceptual import Perceptual
from tests.photos import jpeg, scene
from training.evaluate import psnr, psnr_b, ssim


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (64, 80, 3)).astype(np.uint8)


def test_psnr_of_one_level_everywhere() -> None:
    flat = np.full((16, 16, 3), 100, np.uint8)
    assert psnr(flat + 1, flat) == pytest.approx(48.13, abs=0.01)
    assert psnr(flat, flat) == float("inf")


def test_ssim_is_one_only_for_equal_pictures() -> None:
    pytest.importorskip("skimage")
    assert ssim(noise(), noise()) == pytest.approx(1)
    assert ssim(noise(), noise(1)) < 0.1


def test_psnr_b_counts_steps_at_block_boundaries_on_top() -> None:
    clean = np.full((64, 64), 100, np.uint8)
    blocky = clean.copy()
    blocky[:, 8:16] += 4
    scattered = clean.copy()
    scattered[:, 10:18] += 4
    assert psnr_b(blocky, clean) < psnr(blocky, clean)
    assert psnr_b(scattered, clean) == pytest.approx(psnr(scattered, clean))


NETWORKS = Path(__file__).resolve().parents[3] / "shared" / "data" / "networks"


needs_networks = pytest.mark.skipif(not NETWORKS.is_dir(), reason="the backbones are not beside the repository")


@pytest.mark.slow
@needs_networks
def test_lpips_and_dists_are_zero_for_equal_pictures_and_grow_with_damage() -> None:
    measure = Perceptual(NETWORKS)
    clean = np.asarray(scene(128, 128))
    mild, harsh = (JpegPhoto.from_bytes(jpeg(q, image=scene(128, 128))).pixels() for q in (60, 5))
    assert measure(clean, clean) == pytest.approx((0, 0), abs=1e-5)
    for gentle, strong in zip(measure(mild, clean), measure(harsh, clean), strict=True):
        assert 0 < gentle < strong < 1


@pytest.mark.slow
@needs_networks
def test_distances_hold_where_the_backbones_compute_in_16_bits() -> None:
    """As training with ``precision = "bf16"`` has it; variances of 16-bit features would not."""
    measure = Perceptual(NETWORKS)
    clean = np.asarray(scene(128, 128))
    nearly = JpegPhoto.from_bytes(jpeg(90, image=scene(128, 128))).pixels()
    exact = measure(nearly, clean)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert measure(nearly, clean) == pytest.approx(exact, rel=0.06)
