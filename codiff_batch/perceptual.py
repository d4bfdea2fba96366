"""LPIPS and DISTS: distances that follow the eye better than PSNR. Lower is better, 0 for equal pictures.

Both compare features of ImageNet networks. Their weights are not part of the project; they are read as
safetensors from a folder:

* ``alexnet_features*.safetensors``, ``vgg16_features*.safetensors``: torchvision's ``features.N.weight`` and ``.bias``.
* ``lpips_dists_heads.safetensors``: LPIPS v0.1's ``lpips_alex.linN.model.1.weight`` and DISTS's ``dists.alpha``,
  ``dists.beta``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

# torchvision's ``features``, by position; "tap" marks the outputs that are compared.
ALEXNET: tuple[tuple[int, int, int] | str, ...] = (
    (0, 4, 2), "relu", "tap", "pool", (3, 1, 2), "relu", "tap", "pool", (6, 1, 1), "relu", "tap",
    (8, 1, 1), "relu", "tap", (10, 1, 1), "relu", "tap",
)  # fmt: skip
VGG16: tuple[tuple[int, int, int] | str, ...] = (
    (0, 1, 1), "relu", (2, 1, 1), "relu", "tap", "pool", (5, 1, 1), "relu", (7, 1, 1), "relu", "tap", "pool",
    (10, 1, 1), "relu", (12, 1, 1), "relu", (14, 1, 1), "relu", "tap", "pool",
    (17, 1, 1), "relu", (19, 1, 1), "relu", (21, 1, 1), "relu", "tap", "pool",
    (24, 1, 1), "relu", (26, 1, 1), "relu", (28, 1, 1), "relu", "tap",
)  # fmt: skip
"""A convolution is (index in ``features``, stride, padding)."""


class Backbone(nn.Module):
    """Runs a plan of layers and returns the tapped feature maps.

    Args:
        smooth_pool: DISTS's L2 pooling (Hénaff and Simoncelli 2016) instead of max pooling.
    """

    def __init__(self, plan: tuple[tuple[int, int, int] | str, ...], weights: Path, *, smooth_pool: bool) -> None:
        super().__init__()
        self._plan, self._smooth = plan, smooth_pool
        for name, value in load_file(weights).items():
            self.register_buffer(name.replace(".", "_"), value.float())

    def forward(self, features: Tensor) -> list[Tensor]:
        """Feature maps at the taps, finest first."""
        # As exact as the weights are; pools and statistics are up to four times as fast in this layout.
        features = features.to(next(self.buffers()).dtype, memory_format=torch.channels_last)
        taps = []
        for layer in self._plan:
            if layer == "relu":
                features = F.relu(features)
            elif layer == "tap":
                # 16-bit floats are too coarse for the differences and variances that follow.
                taps.append(features.float())
            elif layer == "pool":
                features = self._pool(features)
            else:
                assert not isinstance(layer, str)
                index, stride, padding = layer
                weight, bias = (getattr(self, f"features_{index}_{part}") for part in ("weight", "bias"))
                features = F.conv2d(features, weight, bias, int(stride), int(padding))
        return taps

    def _pool(self, features: Tensor) -> Tensor:
        if not self._smooth:
            # Torchvision's AlexNet pools over 3x3; VGG16 without smoothing is not used here.
            return F.max_pool2d(features, 3, 2)
        # The window (1, 2, 1) / 4 is a mean of two means. In 16 bits CPUs are slow at the depthwise convolution it is.
        means = F.avg_pool2d(F.avg_pool2d(features.square(), 2, stride=1, padding=1), 2)
        return (means + 1e-12).sqrt()


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity, version 0.1 on AlexNet (Zhang et al. 2018)."""

    mean: Tensor
    std: Tensor

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.backbone = Backbone(ALEXNET, _one(folder, "alexnet_features*"), smooth_pool=False)
        heads = load_file(_one(folder, "lpips_dists_heads*"))
        for layer in range(5):
            self.register_buffer(f"head{layer}", heads[f"lpips_alex.lin{layer}.model.1.weight"].float())
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Distance (B,) between RGB images (B, 3, H, W) in [0, 1]."""
        ours, theirs = (self.backbone((x * 2 - 1 - self.mean) / self.std) for x in (image, reference))
        distance = image.new_zeros(len(image))
        for layer, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            difference = (_unit(a) - _unit(b)) ** 2
            distance = distance + F.conv2d(difference, getattr(self, f"head{layer}")).mean(dim=(1, 2, 3))
        return distance


class DISTS(nn.Module):
    """Deep image structure and texture similarity (Ding et al. 2020), at the picture's own size."""

    mean: Tensor
    std: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.backbone = Backbone(VGG16, _one(folder, "vgg16_features*"), smooth_pool=True)
        heads = load_file(_one(folder, "lpips_dists_heads*"))
        alpha, beta = (heads[f"dists.{name}"].float().flatten() for name in ("alpha", "beta"))
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha / total)
        self.register_buffer("beta", beta / total)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Distance (B,) between RGB images (B, 3, H, W) in [0, 1]; the image itself is the first feature map."""
        ours, theirs = ([x, *self.backbone((x - self.mean) / self.std)] for x in (image, reference))
        texture, structure = [], []
        for a, b in zip(ours, theirs, strict=True):
            (mean_a, var_a), (mean_b, var_b), (_, var_difference) = map(_moments, (a, b, a - b))
            texture.append((2 * mean_a * mean_b + 1e-6) / (mean_a**2 + mean_b**2 + 1e-6))
            # Twice the covariance is what both variances have more than the difference's.
            structure.append(1 - var_difference / (var_a + var_b + 1e-6))
        # Products and a sum, because autocast would multiply matrices in 16 bits.
        similarity = torch.cat(texture, dim=1) * self.alpha + torch.cat(structure, dim=1) * self.beta
        return 1 - similarity.sum(dim=1)


class Perceptual:
    """LPIPS and DISTS of 8-bit pictures.

    Args:
        folder: of the backbones.

    Raises:
        FileNotFoundError: one is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._lpips, self._dists = LPIPS(folder), DISTS(folder)

    def __call__(self, image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> tuple[float, float]:
        """Return (LPIPS, DISTS); gray pictures count as RGB."""
        pair = as_tensor(image), as_tensor(reference)
        with torch.inference_mode():
            return float(self._lpips(*pair)), float(self._dists(*pair))


def as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """8-bit pixels (H, W, 3) or (H, W) as RGB (1, 3, H, W) in [0, 1]."""
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None] / 255


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (B, C) over the pixels of (B, C, H, W).

    By the mean square, in a quarter of the time of ``torch.var`` there and back; the rounding that this costs is small
    beside the variance of features that pictures have.
    """
    flat = features.flatten(2)
    with torch.autocast(features.device.type, enabled=False):
        mean, power = flat.mean(dim=2), torch.linalg.vecdot(flat, flat) / flat.shape[2]
    return mean, (power - mean.square()).clamp(min=0)


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(f"{pattern}.safetensors"))
    if not found:
        raise FileNotFoundError(f"{folder} has no {pattern}.safetensors, a backbone of LPIPS and DISTS")
    return found[0]
