"""Colour corrections for a whole photo, for models whose card asks for one.

Generators that invent texture drift in colour. Both corrections are known from StableSR and used by the
authors' test script; the bundled compact model needs neither.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WAVELET_LEVELS = 5


def adain(restored: Tensor, source: Tensor) -> Tensor:
    """Give each channel of (1, C, H, W) the source's mean and standard deviation (Huang and Belongie 2017)."""
    std, mean = torch.std_mean(restored, dim=(2, 3), keepdim=True)
    source_std, source_mean = torch.std_mean(source, dim=(2, 3), keepdim=True)
    return (restored - mean) / (std + 1e-5) * source_std + source_mean


def wavelet(restored: Tensor, source: Tensor) -> Tensor:
    """Take the lowest band of an a-trous decomposition from the source, all finer bands from the restoration."""
    return restored - _lowest_band(restored) + _lowest_band(source)


def _lowest_band(image: Tensor) -> Tensor:
    kernel = image.new_full((3,), 0.25)  # created on the device: a copy from the host would have to be waited for
    kernel[1] = 0.5
    channels = image.shape[1]
    across, down = (kernel.reshape(shape).repeat(channels, 1, 1, 1) for shape in ((1, 1, 1, 3), (1, 1, 3, 1)))
    for level in range(WAVELET_LEVELS):
        reach = 2**level
        image = F.conv2d(F.pad(image, (reach, reach, 0, 0), mode="replicate"), across, dilation=reach, groups=channels)
        image = F.conv2d(F.pad(image, (0, 0, reach, reach), mode="replicate"), down, dilation=reach, groups=channels)
    return image
