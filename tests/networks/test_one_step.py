"""The one denoising step: Eq. 1 of the paper."""

import pytest
import torch
from torch import nn

from codiff_batch.networks.compact_unet import CompactUNet, PixelAutoencoder
from codiff_batch.networks.one_step import ALPHA_BAR, TIMESTEP, OneStepGenerator, clean_latent


def test_signal_power_is_that_of_stable_diffusions_schedule() -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_bar = torch.cumprod(1 - betas, 0)[TIMESTEP]
    assert pytest.approx(float(alpha_bar), abs=1e-6) == ALPHA_BAR


def test_step_undoes_the_forward_process() -> None:
    clean, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    noisy = ALPHA_BAR**0.5 * clean + (1 - ALPHA_BAR) ** 0.5 * noise
    assert torch.allclose(clean_latent(noisy, noise), clean, atol=1e-5)


class NoiseOfTokens(nn.Module):
    """A UNet that answers with the mean of its context and remembers the timestep."""

    def forward(self, latent: torch.Tensor, timestep: int, encoder_hidden_states: torch.Tensor) -> torch.Tensor:
        self.timestep = timestep
        return encoder_hidden_states.mean(dim=(1, 2)).reshape(-1, 1, 1, 1).expand_as(latent)


def test_generator_encodes_denoises_at_499_and_decodes() -> None:
    unet = NoiseOfTokens()
    generator = OneStepGenerator(PixelAutoencoder(2), unet, nn.Identity())
    image, tokens = torch.rand(2, 3, 8, 8), torch.randn(2, 5, 6)
    expected = (clean_latent(image * 2 - 1, tokens.mean(dim=(1, 2)).reshape(2, 1, 1, 1)) + 1) / 2
    assert torch.allclose(generator(image, tokens), expected, atol=1e-6)
    assert unet.timestep == 499


def test_untrained_compact_generator_is_the_identity() -> None:
    unet = CompactUNet(12, (8, 8, 8, 8), (1, 1, 1, 1), context=16)
    generator = OneStepGenerator(PixelAutoencoder(2), unet, nn.Linear(6, 16))
    image = torch.rand(1, 3, 32, 48)
    assert torch.allclose(generator(image, torch.randn(1, 5, 6)), image, atol=1e-5)


def test_unknown_tables_mean_the_same_whether_left_out_or_zero() -> None:
    unet = CompactUNet(12, (8, 8, 8, 8), (1, 1, 1, 1), context=16)
    nn.init.normal_(unet.head.weight)
    nn.init.normal_(unet.tables.unknown)
    latent, context = torch.randn(1, 12, 16, 16), torch.randn(1, 3, 16)
    left_out = unet(latent, 499, context)
    assert torch.equal(left_out, unet(latent, 499, context, tables=torch.zeros(1, 2, 8, 8)))
    assert not torch.allclose(left_out, unet(latent, 499, context, tables=torch.full((1, 2, 8, 8), 16.0)))
