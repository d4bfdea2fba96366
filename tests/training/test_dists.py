"""DISTS computes its pools and variances a quick way; it must be what the formulas say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from codiff_batch.perceptual import DISTS, VGG16

WIDTH = 6


@pytest.fixture
def dists(tmp_path: Path) -> DISTS:
    """With a narrow random network for VGG16."""
    torch.manual_seed(0)
    weights, before = {}, 3
    for layer in VGG16:
        if isinstance(layer, tuple):
            weights[f"features.{layer[0]}.weight"] = torch.randn(WIDTH, before, 3, 3) * (2 / (9 * before)) ** 0.5
            weights[f"features.{layer[0]}.bias"] = 0.1 * torch.randn(WIDTH)
            before = WIDTH
    save_file(weights, tmp_path / "vgg16_features.safetensors")
    shares = {f"dists.{name}": torch.rand(1, 3 + 5 * WIDTH, 1, 1) for name in ("alpha", "beta")}
    save_file(shares, tmp_path / "lpips_dists_heads.safetensors")
    return DISTS(tmp_path)


def by_the_formulas(dists: DISTS, image: Tensor, reference: Tensor) -> Tensor:
    """DISTS as its paper and Hénaff's pooling have it."""
    window = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(window, window).expand(WIDTH, 1, 3, 3)

    def maps(picture: Tensor) -> list[Tensor]:
        found, features = [picture], (picture - dists.mean) / dists.std
        for layer in VGG16:
            if isinstance(layer, tuple):
                weight, bias = (getattr(dists.backbone, f"features_{layer[0]}_{part}") for part in ("weight", "bias"))
                features = F.conv2d(features, weight, bias, padding=1)
            elif layer == "relu":
                features = F.relu(features)
            elif layer == "tap":
                found.append(features)
            else:
                features = (F.conv2d(features**2, kernel, stride=2, padding=1, groups=WIDTH) + 1e-12).sqrt()
        return found

    similarity, start = torch.zeros(len(image)), 0
    for a, b in zip(maps(image), maps(reference), strict=True):
        mean_a, mean_b = a.mean(dim=(2, 3)), b.mean(dim=(2, 3))
        var_a, var_b = a.var(dim=(2, 3), correction=0), b.var(dim=(2, 3), correction=0)
        covariance = ((a - mean_a[..., None, None]) * (b - mean_b[..., None, None])).mean(dim=(2, 3))
        texture = (2 * mean_a * mean_b + 1e-6) / (mean_a**2 + mean_b**2 + 1e-6)
        structure = (2 * covariance + 1e-6) / (var_a + var_b + 1e-6)
        own = slice(start, start + a.shape[1])
        similarity = similarity + (texture * dists.alpha[own] + structure * dists.beta[own]).sum(dim=1)
        start += a.shape[1]
    return 1 - similarity


@pytest.mark.parametrize("side", [64, 67])
def test_distance_and_gradient_are_those_of_the_formulas(dists: DISTS, side: int) -> None:
    reference = torch.rand(2, 3, side, side)
    image = (reference + 0.1 * torch.randn_like(reference)).requires_grad_()
    ours, theirs = dists(image, reference), by_the_formulas(dists, image, reference)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    gradients = (torch.autograd.grad(distance.sum(), image)[0] for distance in (ours, theirs))
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-2)


def test_weights_in_16_bits_change_next_to_nothing_under_autocast(dists: DISTS) -> None:
    reference = torch.rand(1, 3, 64, 64)
    image = reference + 0.1 * torch.randn_like(reference)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = dists(image, reference)
        dists.backbone.to(torch.bfloat16)
        after = dists(image, reference)
    assert torch.equal(before, after)
    # Validation has no autocast.
    torch.testing.assert_close(dists(image, reference), after, atol=1e-3, rtol=0)
