"""CaVE in the authors' layout, so that their ``cave.pth`` loads with ``strict=True`` (paper, Section 3.2).

Attribute names (``m_head``, ``m_down1``, ``qf_pred`` ...) are the checkpoint's, hence not in this project's style.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from codiff_batch.networks.compact_cave import TOKEN_STRIDE

BATCH_NORM_EPS = 1e-4


class NormedBlock(nn.Module):
    """x + conv(ReLU(BN(conv(x)))) + offset.

    The released decoder modulates its blocks by constants gamma = 1, beta = 1, which leaves ``offset`` = 1
    there; everywhere else it is 0.
    """

    def __init__(self, width: int, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = offset
        self.res = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width, eps=BATCH_NORM_EPS),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        residual: Tensor = self.res(features)
        return features + residual + self.offset


def _blocks(width: int, depth: int, offset: float = 0.0) -> list[nn.Module]:
    return [NormedBlock(width, offset) for _ in range(depth)]


class CaVE(nn.Module):
    """Compression-aware visual embedder with its QF predictor: the part of CaVE used after stage 1.

    Args:
        widths: channels at the four scales; (64, 128, 256, 512) in the paper.
        depth: residual blocks at each scale; 4 in the paper.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512), depth: int = 4) -> None:
        super().__init__()
        w0, w1, w2, w3 = widths
        self.m_head = nn.Conv2d(3, w0, 3, padding=1)
        self.m_down1 = nn.Sequential(*_blocks(w0, depth), nn.Conv2d(w0, w1, 2, stride=2))
        self.m_down2 = nn.Sequential(*_blocks(w1, depth), nn.Conv2d(w1, w2, 4, stride=4))
        self.m_down3 = nn.Sequential(*_blocks(w2, depth), nn.Conv2d(w2, w3, 4, stride=4))
        self.m_body_encoder = nn.Sequential(*_blocks(w3, depth))
        self.qf_pred = nn.Sequential(
            *_blocks(w3, depth),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(w3, w3),
            nn.ReLU(),
            nn.Linear(w3, w3),
            nn.ReLU(),
            nn.Linear(w3, 1),
            nn.Sigmoid(),
        )

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Feature maps of RGB images (B, 3, H, W) in [0, 1], finest first; the last is the embedding's map.

        Sides are padded by replication, to 32 at least and to a multiple of 8; the embedding does
        not see what remains beyond a multiple of 32.
        """
        height, width = image.shape[-2:]
        pad_h, pad_w = (max(TOKEN_STRIDE, -(-side // 8) * 8) - side for side in (height, width))
        x1 = self.m_head(F.pad(image, (0, pad_w, 0, pad_h), mode="replicate"))
        x2 = self.m_down1(x1)
        x3 = self.m_down2(x2)
        x4 = self.m_down3(x3)
        return x1, x2, x3, x4, self.m_body_encoder(x4)

    def _quality(self, body: Tensor) -> Tensor:
        predicted: Tensor = self.qf_pred(body)
        return 100 * (1 - predicted.squeeze(-1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return (tokens (B, K, D), quality factor (B,) in 0..100); the released network predicts (100 - QF)/100."""
        body = self.encode(image)[-1]
        return body.flatten(2).transpose(1, 2), self._quality(body)


class DualCaVE(CaVE):
    """CaVE with the UNet decoder of the implicit objective: what stage 1 trains and ``cave.pth`` holds."""

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512), depth: int = 4) -> None:
        super().__init__(widths, depth)
        w0, w1, w2, w3 = widths
        self.m_body_decoder = nn.Sequential(*_blocks(w3, depth))
        self.m_up3 = nn.Sequential(nn.ConvTranspose2d(w3, w2, 4, stride=4), *_blocks(w2, depth, offset=1.0))
        self.m_up2 = nn.Sequential(nn.ConvTranspose2d(w2, w1, 4, stride=4), *_blocks(w1, depth, offset=1.0))
        self.m_up1 = nn.Sequential(nn.ConvTranspose2d(w1, w0, 2, stride=2), *_blocks(w0, depth, offset=1.0))
        self.m_tail = nn.Conv2d(w0, 3, 3, padding=1)

    def restore(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return (image restored by the implicit objective's decoder, quality factor); sides multiples of 32.

        Raises:
            ValueError: a side is not a multiple of 32, so the skips of the UNet do not fit.
        """
        if any(side % TOKEN_STRIDE for side in image.shape[-2:]):
            raise ValueError(f"the decoder of CaVE needs sides that are multiples of {TOKEN_STRIDE}")
        x1, x2, x3, x4, body = self.encode(image)
        features = self.m_up3(self.m_body_decoder(body) + x4)
        features = self.m_up2(features + x3)
        features = self.m_up1(features + x2)
        restored: Tensor = self.m_tail(features + x1)
        return restored, self._quality(body)
