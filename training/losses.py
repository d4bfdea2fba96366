"""What the objectives of all stages have in common."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Loss(NamedTuple):
    """An objective's result for a batch."""

    total: Tensor
    """Scalar, to be minimised."""
    parts: dict[str, Tensor]
    """Values for the curves."""
    real: Tensor | None = None
    fake: Tensor | None = None
    """Latents for the discriminator to tell apart, if there is one."""


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], per image; at most 60 dB (an untouched pair)."""
    error = (image.clamp(0, 1) - reference).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error.clamp(min=1e-6))
