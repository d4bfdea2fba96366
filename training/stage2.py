"""Stage 2 of the paper (Section 3.3): Stable Diffusion 2.1 learns the one step under a frozen CaVE.

Run as ``python -m training.stage2 training/configs/paper-stage2.toml --photos DIR --base DIR --cave STAGE1_DIR
--networks DIR --out DIR``, under ``accelerate launch`` on several GPUs; then ``python -m training.release``.

LoRA on the UNet and on the VAE's encoder, the UNet's first convolution and the projector in full; L2 + DISTS + GAN
(Eq. 7 to 10). Unlike in the released code the GAN's gradient reaches the generator, the discriminator sees latents
noised to all timesteps, and the latent is the posterior's mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codiff_batch.models.official import add_adapters, load_base, unet_targets, vae_targets
from codiff_batch.networks.cave import DualCaVE
from codiff_batch.networks.one_step import OneStepGenerator
from codiff_batch.networks.stable_diffusion import DenoisingUNet, LatentAutoencoder
from codiff_batch.perceptual import DISTS
from training import stage1
from training.adversary import TRAIN_TIMESTEPS, Adversary
from training.batches import Batch, held_out_batches
from training.config import read_config
from training.fit import Group, TrainingConfig, fit, prepare, stage_options
from training.losses import Loss, psnr
from training.photos import Pixels
from training.run import averaged_weights


@dataclass(frozen=True)
class Stage2Config(TrainingConfig):
    """Settings of stage 2; the defaults are the paper's, except for the batch size of one GPU."""

    patch: int = 256
    rate: float = 5e-5
    clip: float = 1.0
    rank: int = 16
    cave_widths: tuple[int, ...] = (64, 128, 256, 512)
    cave_depth: int = 4
    l2_weight: float = 1.0
    dists_weight: float = 1.0
    gan_weight: float = 5e-3
    gan_horizon: int = TRAIN_TIMESTEPS
    prompt_tokens: int = 77
    """Length of the discriminator's learned prompt."""
    measured: int = 32


class FullCODiff(OneStepGenerator):
    """The paper's generator under training, with the CaVE that guides it."""

    def __init__(self, config: Stage2Config, unet: Any, vae: Any, cave: DualCaVE) -> None:
        for part in (unet, vae, cave):
            part.requires_grad_(False)
        add_adapters(unet, unet_targets(unet), config.rank)
        add_adapters(vae, vae_targets(vae), config.rank)
        unet.conv_in.base_layer.requires_grad_(True)
        projector = nn.Linear(config.cave_widths[-1], unet.config["cross_attention_dim"])
        super().__init__(LatentAutoencoder(vae), DenoisingUNet(unet), projector)
        self.cave = cave

    def train(self, mode: bool = True) -> FullCODiff:
        """CaVE keeps its batch statistics."""
        super().train(mode)
        self.cave.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Restore images (B, 3, H, W) in [0, 1]; returns (image, its latent z_H), neither clamped."""
        with torch.no_grad():
            tokens, _ = self.cave(image)
        latent = self.denoised(image, tokens)
        return self.decoded(latent), latent

    @torch.no_grad()
    def real_latent(self, image: Tensor) -> Tensor:
        """The latent of a clean image by the VAE as it was before training."""
        vae: Any = self.autoencoder.vae
        vae.disable_adapters()
        latent = self.autoencoder.encode(image * 2 - 1)
        vae.enable_adapters()
        return latent


class LatentDiscriminator(nn.Module):
    """The encoder half of a pretrained UNet with adapters, a learned prompt, and a small head on its features.

    Args:
        unet: Stable Diffusion's; its decoder is left out.
    """

    def __init__(self, unet: Any, config: Stage2Config) -> None:
        super().__init__()
        unet.requires_grad_(False)
        targets = unet_targets(unet)
        add_adapters(unet, {name: targets[name] for name in ("default_encoder", "default_others")}, config.rank)
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        self.conv_in, self.down_blocks, self.mid_block = unet.conv_in, unet.down_blocks, unet.mid_block
        self.prompt = nn.Parameter(0.02 * torch.randn(1, config.prompt_tokens, unet.config["cross_attention_dim"]))
        width = unet.config["block_out_channels"][-1]
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(unet.config["norm_num_groups"], width),
            nn.SiLU(),
            nn.Conv2d(width, 1, 1),
        )

    def forward(self, latent: Tensor, timesteps: Tensor) -> Tensor:
        """Logits (B, 1, h/8, w/8) of noised latents (B, 4, h, w)."""
        embedded = self.time_embedding(self.time_proj(timesteps).to(latent.dtype))
        context = self.prompt.expand(len(latent), -1, -1).to(latent.dtype)
        features = self.conv_in(latent)
        for block in self.down_blocks:
            attends = getattr(block, "has_cross_attention", False)
            features, _ = block(features, embedded, **({"encoder_hidden_states": context} if attends else {}))
        logits: Tensor = self.head(self.mid_block(features, embedded, encoder_hidden_states=context))
        return logits


def objective(
    model: FullCODiff, batch: Batch, config: Stage2Config, dists: DISTS | None, adversary: Adversary | None, called: Any
) -> Loss:
    """The paper's Eq. 7: L2 + DISTS + GAN. ``called`` is the model to call, maybe wrapped for several GPUs."""
    restored, fake = called(batch.compressed)
    l2 = F.mse_loss(restored, batch.clean)
    total, parts = config.l2_weight * l2, {"l2": l2.detach()}
    if dists is not None:
        perceptual = dists(restored.clamp(0, 1), batch.clean).mean()
        total, parts["dists"] = total + config.dists_weight * perceptual, perceptual.detach()
    if adversary is None:
        return Loss(total, parts)
    fooling = adversary.generator_loss(fake)
    parts["gan"] = fooling.detach()
    return Loss(total + config.gan_weight * fooling, parts, model.real_latent(batch.clean), fake)


@torch.inference_mode()
def held_out_scores(
    model: FullCODiff, photos: list[Pixels], config: Stage2Config, dists: DISTS | None
) -> dict[str, float]:
    """Gain over the JPEG in dB, and DISTS, on held-out photos."""
    device = next(model.parameters()).device
    found: dict[str, list[Tensor]] = {"gain": [], "dists": []}
    for there in held_out_batches(photos, config.patch, 4, config.recipe, config.measured, device):
        restored = model(there.compressed)[0].clamp(0, 1)
        found["gain"].append(psnr(restored, there.clean) - psnr(there.compressed, there.clean))
        if dists is not None:
            found["dists"].append(dists(restored, there.clean))
    return {name: torch.cat(values).mean().item() for name, values in found.items() if values}


def build(config: Stage2Config, base: Path, cave: Path) -> tuple[FullCODiff, Adversary | None]:
    """The generator, and the discriminator if the configuration has one.

    Args:
        base: Stable Diffusion 2.1-base in diffusers' layout.
        cave: folder of a finished stage 1 in the paper's layout.
    """
    embedder = DualCaVE(config.cave_widths, config.cave_depth)
    stage1.load_cave(embedder, averaged_weights(cave))
    unet, vae = load_base(base)
    model = FullCODiff(config, unet, vae, embedder)
    if not config.gan_weight:
        return model, None
    return model, Adversary(LatentDiscriminator(load_base(base)[0], config), config.gan_horizon)


_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@stage_options
@click.option("--base", required=True, type=_folder, help="Stable Diffusion 2.1-base: unet/ and vae/.")
@click.option("--cave", required=True, type=_folder, help="Folder of a finished stage 1 in the paper's layout.")
@click.option("--networks", type=_folder, help="Folder of the backbone of DISTS.")
def main(
    config_file: Path, photos: Path, base: Path, cave: Path, networks: Path | None, out: Path, device: str
) -> None:
    """Train the paper's generator on lossless photos."""
    config = read_config(config_file, Stage2Config)
    if config.dists_weight and networks is None:
        raise click.UsageError("DISTS needs --networks, the folder of its backbone")
    accelerator = prepare(config, device)
    model, adversary = build(config, base, cave)
    dists = DISTS(networks).to(accelerator.device).eval() if config.dists_weight and networks else None
    fit(
        config,
        model,
        [Group(model)],
        lambda module, batch: objective(model, batch, config, dists, adversary, module),
        adversary=adversary,
        scores=lambda held_out: held_out_scores(model, held_out, config, dists),
        photos=photos,
        out=out,
        accelerator=accelerator,
    )


if __name__ == "__main__":
    main()
