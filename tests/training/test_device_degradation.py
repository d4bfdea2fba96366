"""Pairs made on the device follow the same recipe as those made by libjpeg."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from training.degradation import compress
from training.device_degradation import DeviceDegrader
from training.recipe import Encoding, Recipe

CPU = torch.device("cpu")


def photos() -> list[np.ndarray]:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8))
    return [np.asarray(small.resize((300, 200), Image.Resampling.BICUBIC)), np.asarray(small)]


def draw(count: int = 24, **shares: object):
    degrader = DeviceDegrader(photos(), 64, Recipe(**shares), CPU)
    return degrader.draw(count, np.random.default_rng(1))


def test_the_same_seed_draws_the_same_batch_and_another_number_another() -> None:
    degrader = DeviceDegrader(photos(), 64, Recipe(), CPU)
    stream, later = degrader.batches(4, (1, 0)), degrader.batches(4, (1, 0), start=1)
    first, second = next(stream), next(stream)
    assert not torch.equal(first.clean, second.clean)
    assert all(torch.equal(a, b) for a, b in zip(second, next(later), strict=True))


def test_a_single_compression_is_libjpegs() -> None:
    batch = draw(untouched=0, gray=0, double=0, chroma_420=1, chroma_422=0, tables_hidden=0)
    for clean, compressed, qf, tables in zip(*batch, strict=True):
        pixels = clean.mul(255).round().byte().permute(1, 2, 0).numpy()
        expected, used = compress(pixels, Encoding(round(float(qf)), 2))
        assert np.abs(compressed.mul(255).round().permute(1, 2, 0).numpy() - expected).max() <= 1
        assert np.array_equal(tables.numpy(), used)


def test_untouched_gray_and_hidden_pairs_are_what_they_say() -> None:
    untouched = draw(untouched=1)
    assert torch.equal(untouched.clean, untouched.compressed)
    assert (untouched.qf == 100).all()
    assert not untouched.tables.any()
    gray = draw(gray=1)
    assert (gray.compressed.amax(1) == gray.compressed.amin(1)).all()
    assert not draw(tables_hidden=1).tables.any()


def test_double_compressions_are_labelled_by_the_lower_quality_and_match_their_clean_patch() -> None:
    batch = draw(untouched=0, double=1, shifted=1, fine=0, qf_low=60, tables_hidden=0)
    assert (batch.qf <= 95).all()
    assert (batch.clean - batch.compressed).abs().mean() < 0.08


def test_what_cannot_be_made_here_is_refused() -> None:
    with pytest.raises(ValueError, match="resized pairs cannot"):
        DeviceDegrader(photos(), 64, Recipe(resized=0.1), CPU)
    with pytest.raises(ValueError, match="no photo has room"):
        DeviceDegrader(photos()[1:], 64, Recipe(), CPU)
