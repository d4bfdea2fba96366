"""A fabricated CODiff in the authors' files: tiny widths, random weights, the official names and layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from codiff_batch.networks.cave import DualCaVE
from codiff_batch.networks.stable_diffusion import SD21_UNET, SD21_VAE

if TYPE_CHECKING:  # which every process of the tests would wait for
    from diffusers import AutoencoderKL, UNet2DConditionModel

WIDTHS, DEPTH, RANK = (8, 8, 16, 16), 1, 4
TINY_UNET = {
    **SD21_UNET,
    "block_out_channels": [8, 8, 16, 16],
    "attention_head_dim": [2, 2, 4, 4],
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
}
TINY_VAE = {**SD21_VAE, "block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4}
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_shortcut", "proj_in", "proj_out")


@dataclass
class Official:
    """The files, and what they were made of."""

    codiff: Path
    cave: Path
    base: Path
    unet: UNet2DConditionModel
    """With its adapters in place, unmerged."""
    vae: AutoencoderKL
    embedder: DualCaVE
    projector: nn.Linear

    @torch.no_grad()
    def restore(self, image: torch.Tensor) -> torch.Tensor:
        """The paper's pipeline from stock parts, image (B, 3, H, W) in [0, 1], one embedding of all of it."""
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler.from_pretrained(self.base / "scheduler")
        scheduler.set_timesteps(timesteps=[499])
        tokens = self.projector(self.embedder(image)[0])
        latent = self.vae.encode(image * 2 - 1).latent_dist.mode() * self.vae.config["scaling_factor"]
        noise = self.unet(latent, 499, tokens).sample
        latent = scheduler.step(noise, 499, latent).pred_original_sample
        return (self.vae.decode(latent / self.vae.config["scaling_factor"]).sample + 1) / 2


SMALL_UNET = {
    **TINY_UNET,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [8, 16],
    "attention_head_dim": [2, 4],
    "layers_per_block": 1,
}
SMALL_VAE = {**TINY_VAE, "layers_per_block": 1}


def fabricate(folder: Path, *, small: bool = False) -> Official:
    """Write ``codiff.pkl``, ``cave.pth`` and a base model, as they come from the authors and the hub.

    Args:
        folder: where.
        small: each kind of block once, where that is all that counts; takes a third of the time.
    """
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from peft import LoraConfig

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    unet = UNet2DConditionModel.from_config(SMALL_UNET if small else TINY_UNET).eval()
    vae = AutoencoderKL.from_config(SMALL_VAE if small else TINY_VAE).eval()
    base = folder / "base"
    unet.save_pretrained(base / "unet")
    vae.save_pretrained(base / "vae")
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    scheduler.save_pretrained(base / "scheduler")

    unet_lists = {
        "default_encoder": ["conv_in", *targets(unet, "down_blocks")],
        "default_decoder": ["conv_out", *targets(unet, "up_blocks")],
        "default_others": targets(unet, "mid_block"),
    }
    # The official list of the VAE repeats itself.
    vae_list = [*targets(vae, "encoder"), "quant_conv", *targets(vae, "encoder")]
    for name, modules in unet_lists.items():
        unet.add_adapter(LoraConfig(r=RANK, init_lora_weights="gaussian", target_modules=modules), adapter_name=name)
    unet.set_adapter(list(unet_lists))
    vae.add_adapter(
        LoraConfig(r=RANK, init_lora_weights="gaussian", target_modules=vae_list), adapter_name="default_encoder"
    )
    for module in (unet, vae):
        for name, parameter in module.named_parameters():
            if "lora" in name or name.startswith("conv_in."):
                nn.init.normal_(parameter, std=0.05)
    embedder, projector = DualCaVE(WIDTHS, DEPTH).eval(), nn.Linear(WIDTHS[-1], TINY_UNET["cross_attention_dim"])
    nn.init.normal_(projector.weight, std=1.0)
    torch.save(
        {
            "vae_lora_encoder_modules": vae_list,
            "unet_lora_encoder_modules": unet_lists["default_encoder"],
            "unet_lora_decoder_modules": unet_lists["default_decoder"],
            "unet_lora_others_modules": unet_lists["default_others"],
            "rank_unet": RANK,
            "rank_vae": RANK,
            "state_dict_unet": {k: v for k, v in unet.state_dict().items() if "lora" in k or "conv_in" in k},
            "state_dict_vae": {k: v for k, v in vae.state_dict().items() if "lora" in k},
            "proj": projector.state_dict(),
        },
        folder / "codiff.pkl",
    )
    torch.save(embedder.state_dict(), folder / "cave.pth")
    return Official(folder / "codiff.pkl", folder / "cave.pth", base, unet, vae, embedder, projector)


def targets(network: nn.Module, part: str) -> list[str]:
    """Names of the modules in a part that the authors adapt."""
    return [name for name, _ in network.named_modules() if name.startswith(part) and name.endswith(LORA_TARGETS)]


def change_settings(file: Path, **changes: object) -> None:
    """Edit a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
