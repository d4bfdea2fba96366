"""The GAN loss of stage 2 (paper, Eq. 8 to 10): a discriminator of noised latents, in expectation over the timestep.

Unlike in the released code, the discriminator passes its gradient on to the generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TRAIN_TIMESTEPS = 1000


def alpha_bars() -> Tensor:
    """Cumulative signal power of Stable Diffusion's scaled-linear schedule at its 1000 timesteps, (1000,)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAIN_TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()


class Adversary(nn.Module):
    """The game between a generator of latents and a discriminator, non-saturating (Goodfellow et al. 2014).

    Args:
        discriminator: ``discriminator(latent, timesteps)`` gives logits of any shape, high for real ones.
        horizon: timesteps are drawn evenly from 0 up to this, excluded.
    """

    alpha_bars: Tensor

    def __init__(self, discriminator: nn.Module, horizon: int = TRAIN_TIMESTEPS) -> None:
        super().__init__()
        self.discriminator, self.horizon = discriminator, horizon
        self.register_buffer("alpha_bars", alpha_bars(), persistent=False)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss on latents (B, C, h, w), which are detached."""
        timesteps, noise = self._draw(real)
        for_real = F.softplus(-self._judge(real.detach(), timesteps, noise)).mean()
        for_fake = F.softplus(self._judge(fake.detach(), timesteps, noise)).mean()
        return (for_real + for_fake) / 2

    def generator_loss(self, fake: Tensor) -> Tensor:
        """The generator's loss; its gradient passes through the discriminator, which does not learn from it."""
        with _frozen(self.discriminator):
            return F.softplus(-self._judge(fake, *self._draw(fake))).mean()

    def _draw(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        timesteps = torch.randint(self.horizon, (len(latent),), device=latent.device)
        return timesteps, torch.randn_like(latent)

    def _judge(self, latent: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        power = self.alpha_bars[timesteps].reshape(-1, 1, 1, 1).to(latent.dtype)
        logits: Tensor = self.discriminator(power.sqrt() * latent + (1 - power).sqrt() * noise, timesteps)
        # While the two are hardly distinguishable, 16-bit floats have no digits left for the difference.
        return logits.float()


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


class CompactDiscriminator(nn.Module):
    """Patch discriminator for the compact model's latents, told the timestep.

    Args:
        channels: of the latent.
        width: channels of the first layer; each of the two further ones doubles them.
    """

    EMBEDDING = 64

    def __init__(self, channels: int, width: int = 48) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1)
            for before, after in zip((width, *widths), widths, strict=False)
        )
        self.scales = nn.ModuleList(nn.Linear(self.EMBEDDING, 2 * after) for after in widths)
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for layer in (self.stem, *self.convolutions, self.head):
            nn.utils.parametrizations.spectral_norm(layer)

    def forward(self, latent: Tensor, timesteps: Tensor) -> Tensor:
        """Logits (B, 1, h/8, w/8) of latents (B, channels, h, w), sides multiples of 8."""
        embedded = sinusoids(timesteps, self.EMBEDDING).to(latent.dtype)
        features = F.leaky_relu(self.stem(latent), 0.2)
        for convolution, scale in zip(self.convolutions, self.scales, strict=True):
            gain, shift = scale(embedded)[:, :, None, None].chunk(2, dim=1)
            features = F.leaky_relu(convolution(features) * (1 + gain) + shift, 0.2)
        logits: Tensor = self.head(features)
        return logits


def sinusoids(timesteps: Tensor, width: int) -> Tensor:
    """Sines and cosines of timesteps (B,) at geometric frequencies, (B, width) (Vaswani et al. 2017, 3.5)."""
    frequencies = torch.exp(torch.linspace(0, -9.2, width // 2, device=timesteps.device))
    angles = timesteps[:, None].float() * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=1)
