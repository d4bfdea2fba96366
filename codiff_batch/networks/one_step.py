"""The one denoising step of CODiff (paper, Eq. 1) over any autoencoder and any conditional UNet."""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor, nn

TIMESTEP = 499
"""T_L: the compressed image is treated as a latent this far along the forward process."""

ALPHA_BAR = 0.277669
"""Cumulative signal power at ``TIMESTEP`` in Stable Diffusion's scaled-linear schedule."""

SIGNAL = math.sqrt(ALPHA_BAR)
NOISE = math.sqrt(1 - ALPHA_BAR)


class Autoencoder(Protocol):
    """Images (B, 3, H, W) in [-1, 1] to latents and back, scaling included, deterministic."""

    def encode(self, image: Tensor) -> Tensor:
        """Return the latent z."""

    def decode(self, latent: Tensor) -> Tensor:
        """Return the image of a latent."""


class ConditionalUNet(Protocol):
    """Predicts the noise in a latent under a sequence of context tokens, as diffusers' UNets do."""

    def __call__(self, latent: Tensor, timestep: int, encoder_hidden_states: Tensor, **condition: Tensor) -> Tensor:
        """Return eps, of the latent's shape."""


def clean_latent(latent: Tensor, noise: Tensor) -> Tensor:
    """Eq. 1: z_H = (z_L - sqrt(1 - abar) eps) / sqrt(abar), at timestep 499."""
    return (latent - NOISE * noise) / SIGNAL


class OneStepGenerator(nn.Module):
    """Restores images in one denoising step guided by compression tokens.

    Args:
        autoencoder: any :class:`Autoencoder` module.
        unet: any :class:`ConditionalUNet` module.
        projector: turns CaVE's tokens (B, K, D) into the UNet's context; a linear layer in the paper.
    """

    def __init__(self, autoencoder: nn.Module, unet: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.autoencoder, self.unet, self.projector = autoencoder, unet, projector

    def forward(self, image: Tensor, tokens: Tensor, **condition: Tensor) -> Tensor:
        """Restore RGB images (B, 3, H, W) in [0, 1], sides as the autoencoder and UNet need them; not clamped.

        Args:
            tokens: CaVE's embedding c_L, (B, K, D).
            condition: further inputs of the UNet by name.
        """
        return self.decoded(self.denoised(image, tokens, **condition))

    def denoised(self, image: Tensor, tokens: Tensor, **condition: Tensor) -> Tensor:
        """The latent z_H of images; arguments as for :meth:`forward`."""
        latent = self.autoencoder.encode(image * 2 - 1)  # type: ignore[operator]
        return clean_latent(latent, self.unet(latent, TIMESTEP, self.projector(tokens), **condition))

    def decoded(self, latent: Tensor) -> Tensor:
        """The images (B, 3, H, W) in [0, 1] of latents; not clamped."""
        restored: Tensor = self.autoencoder.decode(latent)  # type: ignore[operator]
        return (restored + 1) / 2
