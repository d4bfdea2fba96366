"""The compact model's CaVE: the paper's compression-aware visual embedder over JPEG's own 8x8 statistics.

Quantization is invisible to a few narrow pixel convolutions but obvious in the block DCT: coefficients
pile up on multiples of the quantization step, most of them on zero. So the front end shows the network
the size of each coefficient and its closeness to zero, and a small residual network does the rest.
Tokens are as in the paper (Section 3.2): one for each 32x32 pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codiff_batch.networks.dct import BlockDCT, rgb_to_ycbcr, ycbcr_to_rgb

TOKEN_STRIDE = 32
"""Pixels covered by one token, on each side."""

ZERO_WIDTH = 0.8
"""A coefficient this far from zero, in levels, is outside the bin that a quantizer would zero."""


class ResidualBlock(nn.Module):
    """conv-ReLU-conv with a skip; no normalisation, so that tiles of one photo agree."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        residual: Tensor = self.conv2(F.relu(self.conv1(features)))
        return features + residual


class Embedding(NamedTuple):
    """What CaVE knows of an image."""

    tokens: Tensor
    """Compression embedding c_L, shape (B, K, D), K = floor(H/32) * floor(W/32)."""
    features: Tensor
    """The map before it is folded into tokens, shape (B, width, H/8, W/8); the implicit objective needs it."""


class CompactCaVE(nn.Module):
    """Embeds images into compression tokens and predicts their quality factor.

    Args:
        width: channels of the residual network.
        depth: number of residual blocks.
        token_width: D, the size of one token.
    """

    def __init__(self, width: int = 128, depth: int = 4, token_width: int = 256) -> None:
        super().__init__()
        self.dct = BlockDCT()
        self.stem = nn.Conv2d(2 * 192, width, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
        self.fold = nn.Conv2d(width, token_width, TOKEN_STRIDE // 8, stride=TOKEN_STRIDE // 8)
        self.qf_head = nn.Sequential(nn.Linear(token_width, token_width), nn.ReLU(), nn.Linear(token_width, 1))

    def embed(self, image: Tensor) -> Embedding:
        """Embed RGB images (B, 3, H, W) in [0, 1] whose pixel (0, 0) lies on the JPEG grid.

        Sides under 32 are padded by replication; up to 31 pixels on the right and bottom are not seen.
        """
        pad_h, pad_w = (max(0, TOKEN_STRIDE - side) for side in image.shape[-2:])
        image = F.pad(image, (0, pad_w, 0, pad_h), mode="replicate")
        height, width = (side // TOKEN_STRIDE * TOKEN_STRIDE for side in image.shape[-2:])
        with torch.autocast(image.device.type, enabled=False):  # 16 bits hide how close to zero a coefficient is
            coefficients = self.dct(rgb_to_ycbcr(image[..., :height, :width]))
            size = torch.log1p(coefficients.abs())
            zeroed = torch.exp(-((coefficients / ZERO_WIDTH) ** 2))
        features = self.blocks(self.stem(torch.cat((size, zeroed), dim=1)))
        return Embedding(self.fold(features).flatten(2).transpose(1, 2), features)

    def quality(self, tokens: Tensor) -> Tensor:
        """Quality factor (B,) in 0..100 from tokens (B, K, D); the sigmoid gives (100 - QF)/100, like the authors'."""
        with torch.autocast(tokens.device.type, enabled=False):  # 16 bits cannot tell 95.0 from 95.4
            mean = tokens.to(next(self.qf_head.parameters()).dtype).mean(dim=1)
            return 100 * (1 - torch.sigmoid(self.qf_head(mean).squeeze(-1)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return (tokens, quality factor) of RGB images (B, 3, H, W) in [0, 1]."""
        tokens = self.embed(image).tokens
        return tokens, self.quality(tokens)


class ImplicitDecoder(nn.Module):
    """Restores the image from CaVE's map: the implicit objective of stage 1. Not used after training.

    It works where CaVE does, on block DCT coefficients, and adds its correction to the input, so all
    that it needs to know must be in the embedding (paper, Section 3.2, "dual learning").
    """

    def __init__(self, width: int = 128, token_width: int = 256, depth: int = 2) -> None:
        super().__init__()
        self.dct = BlockDCT()
        self.unfold = nn.ConvTranspose2d(token_width, width, TOKEN_STRIDE // 8, stride=TOKEN_STRIDE // 8)
        self.join = nn.Conv2d(2 * width, width, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
        self.head = nn.Conv2d(width, 192, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(torch.as_tensor(self.head.bias))

    def forward(self, image: Tensor, embedding: Embedding) -> Tensor:
        """Restore RGB images (B, 3, H, W) in [0, 1], sides multiples of 32, from their embedding."""
        height, width = embedding.features.shape[-2:]
        tokens = embedding.tokens.transpose(1, 2).reshape(len(image), -1, height // 4, width // 4)
        features = self.join(torch.cat((self.unfold(tokens), embedding.features), dim=1))
        correction = self.dct.inverse(self.head(self.blocks(features)))
        return ycbcr_to_rgb(rgb_to_ycbcr(image) + correction)
