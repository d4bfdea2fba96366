"""The compact generator's latent space and conditional UNet.

The latent of the one step (Eq. 1) is a lossless rearrangement of the pixels, so nothing is lost before
the network starts, and the UNet predicts the noise of Eq. 1 as a correction to the value that leaves
the latent as it is: with its last layer at zero the step is the identity.

Nothing here looks at the whole picture (no normalisation, no pooling), so tiles with some overlap give
the same pixels as the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codiff_batch.networks.one_step import NOISE, SIGNAL


class PixelAutoencoder(nn.Module):
    """Pixel (un)shuffle by ``factor``: (B, 3, H, W) <-> (B, 3 factor^2, H/factor, W/factor)."""

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def encode(self, image: Tensor) -> Tensor:
        """Fold pixels into channels; sides must be multiples of the factor."""
        return F.pixel_unshuffle(image, self.factor)

    def decode(self, latent: Tensor) -> Tensor:
        """Unfold channels into pixels."""
        return F.pixel_shuffle(latent, self.factor)


class TableEmbedding(nn.Module):
    """Embeds the quantization tables that a file declares; a learned vector stands for "unknown"."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.unknown = nn.Parameter(torch.zeros(width))
        self.layers = nn.Sequential(nn.Linear(128, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, tables: Tensor) -> Tensor:
        """(B, 2, 8, 8) luma and chroma quantization steps, all zero where unknown -> (B, width)."""
        known = tables.flatten(1).amax(dim=1, keepdim=True) > 0
        embedded = self.layers(torch.log2(tables.clamp(min=1)).flatten(1) / 8)
        return torch.where(known, embedded, self.unknown)


class ModulatedBlock(nn.Module):
    """conv, scale and shift by the condition (FiLM), ReLU, conv, skip."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(condition, 2 * width)
        if not self.film.weight.is_meta:  # Without memory, drawing numbers has torch import its compiler.
            nn.init.normal_(self.film.weight, std=1e-2)
        nn.init.zeros_(self.film.bias)
        with torch.no_grad():
            self.conv2.weight.mul_(0.3)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        residual: Tensor = self.conv2(F.relu(self.conv1(features) * (1 + scale) + shift))
        return features + residual


class CrossAttention(nn.Module):
    """Cross-attention from each position to the compression tokens, added to the features."""

    def __init__(self, width: int, context: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Conv2d(width, width, 1)
        self.to_key_value = nn.Linear(context, 2 * width)
        self.to_out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(torch.as_tensor(self.to_out.bias))

    def forward(self, features: Tensor, context: Tensor) -> Tensor:
        count, channels, height, width = features.shape
        query = self.to_query(features).reshape(count, self.heads, -1, height * width).transpose(2, 3)
        key, value = (
            self.to_key_value(context).reshape(count, -1, 2, self.heads, query.shape[-1]).permute(2, 0, 3, 1, 4)
        )
        answer = F.scaled_dot_product_attention(query, key, value)  # (B, heads, h w, channels / heads)
        added: Tensor = self.to_out(answer.transpose(2, 3).reshape(count, channels, height, width))
        return features + added


class Stage(nn.Module):
    """Blocks at one resolution, followed by cross-attention if enabled."""

    def __init__(self, width: int, depth: int, condition: int, context: int, attends: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ModulatedBlock(width, condition) for _ in range(depth))
        self.attention = CrossAttention(width, context) if attends else None

    def forward(self, features: Tensor, condition: Tensor, context: Tensor) -> Tensor:
        for block in self.blocks:
            features = block(features, condition)
        return self.attention(features, context) if self.attention is not None else features


class CompactUNet(nn.Module):
    """Conditional UNet for latents of a :class:`PixelAutoencoder`.

    Args:
        channels: of the latent.
        widths: channels at each resolution, finest first; the input's sides must be multiples of
            ``2 ** (len(widths) - 1)``.
        depths: blocks at each resolution, on the way down and again on the way up.
        context: size of one context token.
        seen: channels of a second latent that the network sees beside the one it denoises.
    """

    def __init__(
        self,
        channels: int = 12,
        widths: Sequence[int] = (48, 80, 128, 192),
        depths: Sequence[int] = (1, 2, 2, 2),
        context: int = 128,
        seen: int = 0,
    ) -> None:
        super().__init__()
        self.tables = TableEmbedding(context)
        levels = range(len(widths))

        def stage(level: int) -> Stage:
            return Stage(widths[level], depths[level], context, context, attends=level >= len(widths) - 2)

        self.stem = nn.Conv2d(channels + seen, widths[0], 3, padding=1)
        self.down = nn.ModuleList(stage(level) for level in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in levels[:-1])
        self.grow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(widths[i + 1], 4 * widths[i], 1), nn.PixelShuffle(2)) for i in levels[:-1]
        )
        self.up = nn.ModuleList(stage(level) for level in levels[:-1])
        self.head = nn.Conv2d(widths[0], channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(torch.as_tensor(self.head.bias))

    def forward(
        self,
        latent: Tensor,
        timestep: int,
        encoder_hidden_states: Tensor,
        *,
        tables: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise of Eq. 1.

        Args:
            latent: (B, channels, h, w).
            timestep: always 499; the network knows no other, so it is not an input of any layer.
            encoder_hidden_states: context tokens (B, K, context).
            tables: quantization tables that the file declares, (B, 2, 8, 8); None or zeros where unknown.
            beside: the second latent, (B, seen, h, w), if the network sees one.
        """
        context = encoder_hidden_states
        if tables is None:
            tables = latent.new_zeros(latent.shape[0], 2, 8, 8)
        condition = F.relu(context.mean(dim=1) + self.tables(tables))
        features = self.stem(latent if beside is None else torch.cat((latent, beside), dim=1))
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            features = stage(features, condition, context)
            if level < len(self.shrink):
                skips.append(features)
                features = self.shrink[level](features)
        for level in reversed(range(len(self.up))):
            features = self.up[level](self.grow[level](features) + skips[level], condition, context)
        identity = ((1 - SIGNAL) / NOISE) * latent
        correction: Tensor = self.head(features)
        return identity + correction
