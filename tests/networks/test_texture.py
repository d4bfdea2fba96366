"""Texture over a faithful restoration never repeats with the network's grid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from codiff_batch.models.loading import build_compact
from codiff_batch.networks.texture import repeating, smoothness
from tests.tiny_model import SIZES

MIDDLE = (..., slice(48, -48), slice(48, -48))


def ramp(side: int) -> Tensor:
    line = torch.linspace(0, 1, side)
    return (line[:, None] + 2 * line).expand(1, 3, side, side)


@pytest.mark.parametrize("period", [2, 4, 8, 16])
def test_what_repeats_with_the_grid_is_found_whole(period: int) -> None:
    torch.manual_seed(0)
    cell = torch.randn(1, 3, period, period)
    weave = (cell - cell.mean(dim=(2, 3), keepdim=True)).tile(1, 1, 256 // period, 256 // period)
    assert torch.allclose(repeating(weave + 0.7, 16)[MIDDLE], weave[MIDDLE], atol=1e-5)


def test_what_changes_slowly_is_not_taken_for_repetition() -> None:
    assert repeating(ramp(256), 16)[MIDDLE].abs().max() < 1e-4


def test_of_what_is_random_little_is_taken() -> None:
    torch.manual_seed(0)
    noise = torch.randn(1, 3, 256, 256)
    assert repeating(noise, 16)[MIDDLE].std() < 0.3


def test_a_picture_may_be_of_one_cell() -> None:
    cell = torch.rand(1, 3, 16, 16)
    assert repeating(cell, 16).isfinite().all()


class Adds(nn.Module):
    """Stands for a generator that adds one texture to whatever it gets."""

    def __init__(self, texture: Tensor) -> None:
        super().__init__()
        self.texture = texture

    def forward(self, image: Tensor, tokens: Tensor, **condition: Tensor) -> Tensor:
        return image + self.texture


def test_a_weave_is_not_added_and_a_weave_of_the_photo_stays() -> None:
    torch.manual_seed(0)
    cell = torch.randn(1, 3, 8, 8)
    weave = (cell - cell.mean(dim=(2, 3), keepdim=True)).tile(1, 1, 24, 24)
    noise = torch.randn(1, 3, 192, 192)
    photo = 0.5 + weave
    # With fresh weights the faithful half leaves a picture as it is.
    textured = build_compact({**SIZES, "texture": True}).generator
    textured.texture = Adds(weave + noise)
    added = textured(photo, torch.zeros(1, 1, SIZES["token_width"])) - photo
    similarity = torch.cosine_similarity(added.flatten(), noise.flatten(), dim=0)
    assert similarity > 0.95
    assert added.unfold(2, 16, 16).unfold(3, 16, 16).mean(dim=(2, 3)).std() < 0.1


def test_a_texture_network_that_refines_sees_what_the_faithful_one_corrected() -> None:
    torch.manual_seed(0)
    generator = build_compact({**SIZES, "texture": True, "texture_refines": True}).generator
    for name, weight in generator.named_parameters():
        if name.endswith("unet.head.weight"):
            nn.init.normal_(weight, std=0.02)
    photo, tokens = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, SIZES["token_width"])
    seen = {}
    generator.texture.unet.stem.register_forward_pre_hook(lambda _, inputs: seen.update(latent=inputs[0]))
    with torch.inference_mode():
        faithful = generator(photo, tokens, amount=torch.zeros(1, 0))
        generator(photo, tokens)
        corrections = generator.autoencoder.encode(faithful) - generator.autoencoder.encode(photo)
    assert corrections.std() > 0.01
    assert torch.allclose(seen["latent"][:, :12], generator.autoencoder.encode(2 * photo - 1))
    assert torch.allclose(seen["latent"][:, 12:], 16 * corrections, atol=1e-4)


def test_in_a_smooth_area_a_fine_weave_goes_even_where_it_swells_and_fades() -> None:
    """One that an eye does not see among texture stays: it may be texture."""
    torch.manual_seed(0)
    cell = torch.randn(1, 3, 4, 4)
    swelling = torch.sin(torch.arange(192) * torch.pi / 32)
    weave = 0.02 * swelling * (cell - cell.mean(dim=(2, 3), keepdim=True)).tile(1, 1, 48, 48)
    textured = build_compact({**SIZES, "texture": True}).generator
    textured.texture = Adds(weave)
    smooth, busy = 0.1 * ramp(192) + 0.5, 0.5 + 0.2 * torch.randn(1, 3, 192, 192)
    left = {}
    for name, photo in (("smooth", smooth), ("busy", busy)):
        added = textured(photo, torch.zeros(1, 1, SIZES["token_width"])) - photo
        left[name] = (added[MIDDLE].std() / weave[MIDDLE].std()).item()
    assert left["smooth"] < 0.35
    assert left["busy"] > 0.7


def test_smoothness_is_the_absence_of_contrast() -> None:
    torch.manual_seed(0)
    assert smoothness(torch.full((1, 3, 32, 32), 0.3)).min() > 0.999
    assert smoothness(0.04 * torch.randn(1, 3, 128, 128)).mean().item() == pytest.approx(0.5, abs=0.02)
    assert smoothness(torch.rand(1, 3, 64, 64)).max() < 0.05
