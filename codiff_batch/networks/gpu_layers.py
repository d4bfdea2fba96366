"""Layers of Stable Diffusion's networks that need less copying on a GPU; elsewhere they are unchanged.

Both replacements give the stock layers' values up to rounding, which tests show on a processor. That they are faster
is an estimate: they have not met a GPU yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:  # see stable_diffusion.py
    from diffusers.models.attention_processor import Attention

log = logging.getLogger(__name__)

QUERIES = 2048
"""Queries processed at a time; bounds the matrix of weights to 64 MB at 1024x1024 in 16-bit floats."""


def attend_in_chunks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by plain matrix products: the VAE's heads are 512 wide, for which there is no fast kernel.

    Args:
        query, key, value: (B, N, D).
    """
    scaled, keys = query * query.shape[-1] ** -0.5, key.transpose(1, 2)
    chunks = [torch.softmax(part @ keys, dim=-1) @ value for part in scaled.split(QUERIES, dim=1)]
    return torch.cat(chunks, dim=1)


def on_a_gpu(maps: Tensor) -> bool:
    """Return True where the replacements are worth it."""
    return maps.is_cuda


class ChunkedAttention:
    """A processor for diffusers' attention over the positions of a map, with one head."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        temb: Any = None,
    ) -> Tensor:
        """Attend over (B, C, H, W); the other arguments are what diffusers hands to any processor."""
        rows: Tensor = attn.group_norm(hidden_states.flatten(2)).transpose(1, 2)
        query, key, value = attn.to_q(rows), attn.to_k(rows), attn.to_v(rows)
        if on_a_gpu(rows):
            answer = attend_in_chunks(query, key, value)
        else:
            answer = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        answer = attn.to_out[0](answer).transpose(1, 2).reshape(hidden_states.shape)
        added: Tensor = (answer + hidden_states) / attn.rescale_output_factor
        return added


def normalize_last(maps: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Group normalisation of maps (B, C, H, W) that are channels-last in memory and stay so.

    torch's own on CUDA gives back maps that lie channels-first, in many of its versions, so that each convolution
    after one copies them. Statistics are taken in 32-bit floats.
    """
    count, channels, height, width = maps.shape
    rows = maps.permute(0, 2, 3, 1).reshape(count, height * width, groups, channels // groups)
    mean = rows.mean(dim=(1, 3), keepdim=True, dtype=torch.float32)
    centred = rows - mean.to(rows.dtype)
    variance = torch.linalg.vector_norm(centred, dim=(1, 3), dtype=torch.float32) ** 2 / rows[0, :, 0].numel()
    scale = (variance + eps).rsqrt()[..., None] * weight.float().reshape(groups, -1)
    normalized = torch.addcmul(bias, centred.flatten(2), scale.reshape(count, 1, channels).to(maps.dtype))
    return normalized.reshape(count, height, width, channels).permute(0, 3, 1, 2)


@cache
def kernel_for(device: torch.device) -> Callable[..., Tensor] | None:
    """Return the kernel of :mod:`~codiff_batch.networks.norm_kernel` if it works on a GPU, as tried on a small map."""
    try:
        from codiff_batch.networks.norm_kernel import normalize

        maps = torch.linspace(-3, 5, 2 * 64 * 90, device=device).reshape(2, 64, 9, 10)
        maps = maps.contiguous(memory_format=torch.channels_last)
        weight = torch.linspace(-1, 1, 64, device=device)
        ours = normalize(maps, 32, weight, weight, 1e-5, silu=True)
        if torch.allclose(ours, F.silu(F.group_norm(maps, 32, weight, weight, 1e-5)), atol=1e-3):
            return normalize
        reason = "it gives other values"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # No Triton, no compiler for what it generates, or a GPU that it does not know.
        reason = " ".join(str(error).split())[:200]
    log.info("group normalisation in torch's own layers on %s, not by the kernel: %s", device, reason)
    return None


class LastGroupNorm(nn.GroupNorm):
    """Group normalisation that keeps maps channels-last on a GPU, with the SiLU after it where there is one."""

    silu = False

    def forward(self, maps: Tensor) -> Tensor:
        if on_a_gpu(maps) and maps.dim() == 4 and maps.is_contiguous(memory_format=torch.channels_last):
            told = self.num_groups, self.weight, self.bias, self.eps
            # A compiler fuses these by itself, with what comes before and after.
            if not torch.compiler.is_compiling() and (kernel := kernel_for(maps.device)):
                return kernel(maps, *told, silu=self.silu)
            normalized = normalize_last(maps, *told)
        else:
            normalized = super().forward(maps)
        return F.silu(normalized) if self.silu else normalized


def suit_gpus(network: nn.Module) -> None:
    """Replace the layers of a network that have a better form on a GPU; weights do not change."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D

    for module in network.modules():
        if type(module) is nn.GroupNorm and module.affine:
            module.__class__ = LastGroupNorm
        if isinstance(module, Attention) and module.heads == 1 and module.group_norm is not None:
            module.set_processor(ChunkedAttention())
    for module in network.modules():
        if isinstance(module, ResnetBlock2D) and module.time_emb_proj is None:
            _join(module, "nonlinearity", "norm1", "norm2")
        else:
            _join(module, "conv_act", "conv_norm_out")


def _join(block: nn.Module, activation: str, *norms: str) -> None:
    """Give a block's SiLU to the normalisations before it."""
    before = [getattr(block, name, None) for name in norms]
    if isinstance(getattr(block, activation, None), nn.SiLU) and all(isinstance(n, LastGroupNorm) for n in before):
        for norm in before:
            norm.silu = True  # type: ignore[union-attr]
        setattr(block, activation, nn.Identity())
