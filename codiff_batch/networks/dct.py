"""The blockwise transform of JPEG as fixed torch layers (ITU-T T.81, A.3.3; JFIF 1.02 for the colours)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 8


def dct_matrix() -> Tensor:
    """The orthonormal DCT-II matrix, shape (8, 8): rows are frequencies, columns are samples."""
    frequency = torch.arange(BLOCK, dtype=torch.float64).unsqueeze(1)
    sample = torch.arange(BLOCK, dtype=torch.float64).unsqueeze(0)
    matrix = torch.cos((2 * sample + 1) * frequency * math.pi / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


def rgb_to_ycbcr(image: Tensor) -> Tensor:
    """Turn RGB (B, 3, H, W) in [0, 1] into level-shifted YCbCr in [-128, 127] (JFIF 1.02, "Conversion")."""
    red, green, blue = (image * 255).unbind(dim=1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack((luma - 128, (blue - luma) / 1.772, (red - luma) / 1.402), dim=1)


def ycbcr_to_rgb(image: Tensor) -> Tensor:
    """Invert :func:`rgb_to_ycbcr`; the result is not clamped."""
    luma, cb, cr = image.unbind(dim=1)
    luma = luma + 128
    red, blue = luma + 1.402 * cr, luma + 1.772 * cb
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return torch.stack((red, green, blue), dim=1) / 255


class BlockDCT(nn.Module):
    """8x8 block DCT of each of three channels, as a strided convolution with fixed weights."""

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Even where a network is built without memory: such arithmetic has torch import its compiler, for two seconds.
        with torch.device("cpu"):
            matrix = dct_matrix()
            basis = torch.einsum("ui,vj->uvij", matrix, matrix).reshape(BLOCK * BLOCK, 1, BLOCK, BLOCK)
            self.register_buffer("basis", basis.repeat(3, 1, 1, 1), persistent=False)

    def forward(self, channels: Tensor) -> Tensor:
        """(B, 3, H, W) with sides that are multiples of 8 -> coefficients (B, 192, H/8, W/8), channel by channel."""
        return F.conv2d(channels, self.basis, stride=BLOCK, groups=3)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """(B, 192, H/8, W/8) -> (B, 3, H, W)."""
        return F.conv_transpose2d(coefficients, self.basis, stride=BLOCK, groups=3)
