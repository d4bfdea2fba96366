"""Stable Diffusion's networks as the parts of the one step: stock diffusers classes, held by thin adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from codiff_batch.networks.one_step import TIMESTEP

if TYPE_CHECKING:  # diffusers takes seconds to import, which only those pay who load the full model
    from diffusers import AutoencoderKL, UNet2DConditionModel

LATENT_STRIDE = 8
"""Pixels to a latent position, on each side."""

SD21_UNET: Mapping[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
"""Stable Diffusion 2.1-base; everything else as diffusers has it."""

SD21_VAE: Mapping[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 768,
    "scaling_factor": 0.18215,
}


class LatentAutoencoder(nn.Module):
    """Stable Diffusion's VAE as an :class:`~codiff_batch.networks.one_step.Autoencoder`.

    The posterior's mode is the latent. The released code draws a sample from the posterior, without a seed, so its
    results differ from run to run.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def encode(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], sides multiples of 8, to latents (B, 4, H/8, W/8), scaled."""
        mode: Tensor = self.vae.encode(image).latent_dist.mode()
        scale: float = self.vae.config["scaling_factor"]
        return mode * scale

    def decode(self, latent: Tensor) -> Tensor:
        """Invert :meth:`encode`, except for what the VAE loses."""
        image: Tensor = self.vae.decode(latent / self.vae.config["scaling_factor"]).sample
        return image


class DenoisingUNet(nn.Module):
    """Stable Diffusion's UNet as a :class:`~codiff_batch.networks.one_step.ConditionalUNet`."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latent: Tensor, timestep: int, encoder_hidden_states: Tensor) -> Tensor:
        """Predict the noise in latents (B, 4, h, w), h and w multiples of 8, under tokens (B, K, D)."""
        # Filled in on the device: a copy from the host would keep the step out of a CUDA graph.
        timesteps = latent.new_full((1,), timestep, dtype=torch.long)
        noise: Tensor = self.unet(latent, timesteps, encoder_hidden_states, return_dict=False)[0]
        return noise


@torch.no_grad()
def fold_timestep(unet: UNet2DConditionModel) -> None:
    """Fold the embedding of the one timestep into the biases it is added to; the UNet then knows no other.

    Raises:
        ValueError: the UNet uses its timestep in another way than Stable Diffusion does.
    """
    from diffusers.models.resnet import ResnetBlock2D

    blocks = [module for module in unet.modules() if isinstance(module, ResnetBlock2D)]
    if any(block.time_emb_proj is None or block.time_embedding_norm != "default" for block in blocks):
        raise ValueError("the timestep cannot be folded into this UNet")
    # In 32-bit floats, whatever the weights are stored in: it costs nothing and rounds only once.
    device = next(unet.parameters()).device
    embedded = unet.time_embedding.float()(unet.time_proj(torch.tensor([TIMESTEP], device=device)))
    for block in blocks:
        assert block.time_emb_proj is not None
        added = block.time_emb_proj.float()(block.nonlinearity(embedded))[0]
        block.conv1.bias.copy_(block.conv1.bias.float() + added)
        block.time_emb_proj = None
    unet.time_embedding = _NoTimestep()


class _NoTimestep(nn.Module):
    """Placeholder for a timestep embedding that has been folded away."""

    def forward(self, *_: object) -> None: ...
