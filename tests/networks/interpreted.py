"""Compares the Triton kernels, run by Triton's interpreter, with torch; ``TRITON_INTERPRET=1 python -m`` this.

A process of its own, because Triton reads the variable when it is first imported.
"""

from __future__ import annotations

import itertools

import torch
from torch.nn import functional as F

from codiff_batch.networks import norm_kernel

SHAPES = ((2, 128, 9, 11), (1, 320, 8, 8), (1, 512, 21, 10), (1, 32, 1, 2))
"""Widths of Stable Diffusion's UNet and VAE; the third is summed up in several parts."""

WITHIN = {torch.float32: 5e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def main() -> None:
    """Check values, float format and layout."""
    norm_kernel.PARTS = 3
    for shape, (floats, within), silu in itertools.product(SHAPES, WITHIN.items(), (False, True)):
        torch.manual_seed(0)
        far_from_zero = torch.arange(shape[1])[None, :, None, None] / 20 + 20
        maps = (torch.randn(shape) * 3 + far_from_zero).to(floats).contiguous(memory_format=torch.channels_last)
        weight, bias = torch.randn(2, shape[1]).to(floats)
        ours = norm_kernel.normalize(maps, 32, weight, bias, 1e-5, silu=silu)
        exact = F.group_norm(maps.double(), 32, weight.double(), bias.double(), 1e-5)
        exact = F.silu(exact) if silu else exact
        off = ((ours.double() - exact).abs() / (exact.abs() + 1)).max().item()
        assert off < within, f"{shape}, {floats}, silu {silu}: off by {off:.1e}"
        assert ours.dtype == floats, f"{ours.dtype} from {floats}"
        assert ours.is_contiguous(memory_format=torch.channels_last), f"{shape}: {ours.stride()}"


if __name__ == "__main__":
    main()
