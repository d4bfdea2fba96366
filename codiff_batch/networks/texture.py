"""A generator with a texture knob: a faithful restoration plus texture that cannot form a weave.

A convolutional network that finds nothing in a smooth area gives every cell of its own grids the same values, so any
texture that it puts there repeats with a grid: a regular weave that the eye sees at once. Here a second network's
difference to the faithful one is the texture, and what of it repeats with its coarsest grid is taken out before it is
added; in smooth areas, where the eye would see it, also what repeats with the finer ones. The photo's own repetition
is in the faithful restoration and stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
        refines: whether the second network also sees the faithful one's correction, as the condition ``beside``, so
            that it need not find it again.
    """

    CORRECTION_SCALE = 8.0
    """Brings corrections to the size of pixels in [-1, 1], so that a network learns from them as quickly."""

    def __init__(
        self, faithful: OneStepGenerator, texture: OneStepGenerator, grid: int, *, refines: bool = False
    ) -> None:
        super().__init__(faithful.autoencoder, faithful.unet, faithful.projector)
        self.texture, self.grid, self.refines = texture, grid, refines

    def forward(self, image: Tensor, tokens: Tensor, *, amount: Tensor | None = None, **condition: Tensor) -> Tensor:
        """Restore; arguments as for :class:`OneStepGenerator`.

        Args:
            amount: (B,), how much of the texture is added; 0 is the faithful restoration, 1 or None all of it. (B, 0)
                is 0 for all, and spares the second network: looking into a tensor would make a GPU's queue wait.
        """
        with torch.no_grad():
            faithful = super().forward(image, tokens, **condition)
        if amount is not None and not amount.numel():
            return faithful
        if self.refines:
            correction = self.autoencoder.encode(2 * (faithful - image))  # type: ignore[operator]
            condition["beside"] = self.CORRECTION_SCALE * correction
        added = self._irregular(self.texture(image, tokens, **condition) - faithful, smoothness(faithful))
        return faithful + (added if amount is None else amount[:, None, None, None] * added)

    def _irregular(self, texture: Tensor, smooth: Tensor) -> Tensor:
        """The part of a texture that repeats with none of the grids except the two finest, which hold no weave."""
        texture = texture - repeating(texture, self.grid)
        for period in (self.grid // 2, self.grid // 4):
            texture = texture - smooth * repeating(texture, period)
        return texture


def smoothness(image: Tensor, reach: int = 8, contrast: float = 0.04) -> Tensor:
    """How flat the area around each pixel is: 1 where it has no contrast, 0.5 where the contrast is as given.

    Args:
        image: (B, C, H, W) in [0, 1].
        reach: pixels to each side that count.
        contrast: standard deviation of the values; chosen on held-out photos, so that skies are clean and foliage keeps
            its texture.

    Returns:
        (B, 1, H, W)
    """
    window = [1.0] * (2 * reach + 1)
    variance = (_mean(image.square(), window) - _mean(image, window).square()).clamp(min=0).mean(dim=1, keepdim=True)
    return 1 / (1 + variance / contrast**2)


def repeating(image: Tensor, period: int, reach: int = 2, spread: float = 1.2) -> Tensor:
    """The part of an image that repeats with a period along both axes, without slow changes.

    Each pixel becomes the weighted mean of those at its own place in the cells around, a comb filter; then the mean
    over one period is taken off.

    Args:
        image: (B, C, H, W).
        period: in pixels, even.
        reach: how many cells to each side are looked at.
        spread: standard deviation of the Gaussian weights, in cells.
    """
    folded = _mean(image, [math.exp(-(cell**2) / (2 * spread**2)) for cell in range(-reach, reach + 1)], step=period)
    # The two ends weigh a half: an odd window, which has a middle, over exactly one period.
    return folded - _mean(folded, [0.5, *[1.0] * (period - 1), 0.5])


def _mean(image: Tensor, weights: Sequence[float], step: int = 1) -> Tensor:
    """Weighted mean along both axes over every ``step``-th neighbour; there are none past the edges."""
    for axis in (2, 3):
        line = image.new_ones([image.shape[axis] if other == axis else 1 for other in range(4)])
        image = _sum(image, weights, step, axis) / _sum(line, weights, step, axis)
    return image


def _sum(image: Tensor, weights: Sequence[float], step: int, axis: int) -> Tensor:
    """Weighted sum along one axis over every ``step``-th neighbour; zero past the edges.

    Uses shifted pictures, since CPUs are slow at depthwise convolutions of this shape (in 16 bits by a hundred times).
    """
    reach = len(weights) // 2 * step
    padded = F.pad(image, (0, 0, reach, reach) if axis == 2 else (reach, reach))
    total = torch.zeros_like(image)
    for place, share in enumerate(weights):
        total = total + share * padded.narrow(axis, step * place, image.shape[axis])
    return total
