"""The natural model's generator: a faithful restoration, and texture over it that cannot become a weave.

A convolutional network that finds nothing in a smooth area gives every cell of its own grid the same values, so any
texture that it puts there repeats with the grid, as a regular weave that an eye sees at once. Here a second network's
difference to the faithful one is the texture, and what of it repeats with the grid is taken out before it is added:
what the photo itself repeats is in the faithful restoration and stays.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codiff_batch.networks.one_step import OneStepGenerator


class TexturedGenerator(OneStepGenerator):
    """Faithful restoration plus the irregular part of what a second network would add to it.

    Only the second network learns; gradients do not reach the faithful one.

    Args:
        faithful: the generator to add texture to.
        texture: restores with texture; it sees the same image, tokens and conditions.
        grid: period of the second network's coarsest grid in pixels.
    """

    def __init__(self, faithful: OneStepGenerator, texture: OneStepGenerator, grid: int) -> None:
        super().__init__(faithful.autoencoder, faithful.unet, faithful.projector)
        self.texture, self.grid = texture, grid

    def forward(self, image: Tensor, tokens: Tensor, *, amount: Tensor | None = None, **condition: Tensor) -> Tensor:
        """Restore; arguments as for :class:`OneStepGenerator`.

        Args:
            amount: (B,), how much of the texture is added; 0 is the faithful restoration, 1 or None all of it.
        """
        with torch.no_grad():
            faithful = super().forward(image, tokens, **condition)
        if amount is not None and not amount.any():
            return faithful
        added: Tensor = self.texture(image, tokens, **condition) - faithful
        added = added - repeating(added, self.grid)
        return faithful + (added if amount is None else amount[:, None, None, None] * added)


def repeating(image: Tensor, period: int, reach: int = 2, spread: float = 1.2) -> Tensor:
    """The part of an image that repeats with a period along both axes, without what changes slowly.

    Each pixel becomes the weighted mean of those at its own place in the cells around, a comb filter; then the mean
    over one period is taken off.

    Args:
        image: (B, C, H, W).
        period: in pixels, even.
        reach: how many cells to each side are looked at.
        spread: standard deviation of the Gaussian weights, in cells.
    """
    cells = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    folded = _mean(image, torch.exp(-(cells**2) / (2 * spread**2)), step=period)
    # The two ends weigh a half: an odd window, which has a middle, over exactly one period.
    window = image.new_ones(period + 1)
    window[[0, -1]] = 0.5
    return folded - _mean(folded, window)


def _mean(image: Tensor, weights: Tensor, step: int = 1) -> Tensor:
    """Weighted mean along both axes over every ``step``-th neighbour; past the edges there are none."""
    channels, reach = image.shape[1], len(weights) // 2 * step
    kernel = weights.expand(channels, 1, 1, -1)
    for _ in range(2):
        line = image.new_ones(1, channels, 1, image.shape[3])
        total, weight = (
            F.conv2d(part, kernel, padding=(0, reach), dilation=step, groups=channels) for part in (image, line)
        )
        image = (total / weight).transpose(2, 3)
    return image
