"""The paper's Table 2 for our full model: parameters, and multiplications at 1024x1024, by part.

Run as ``python benchmarks/complexity.py [--side 1024]``. Nothing is computed: the networks have no weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import click
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from codiff_batch.models.official import add_adapters, unet_targets, vae_targets
from codiff_batch.networks.cave import CaVE
from codiff_batch.networks.compact_cave import TOKEN_STRIDE
from codiff_batch.networks.stable_diffusion import LATENT_STRIDE, SD21_UNET, SD21_VAE

RANK = 16
TOKEN_WIDTH, CONTEXT = 512, 1024


class Part(NamedTuple):
    """One row."""

    name: str
    parameters: int
    macs: float
    """All multiplications, those of attention included."""
    layer_macs: float
    """Those of convolutions and linear layers only, as the usual counters and the paper count."""


def count(name: str, modules: list[nn.Module], run: Callable[[], object]) -> Part:
    """Count the parameters of modules and the multiplications of a call."""
    layers = 0

    def add(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal layers
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        layers += output.numel() * layer.weight[0].numel()

    inner = [m for module in modules for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(add) for layer in inner]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    parameters = sum(parameter.numel() for module in modules for parameter in module.parameters())
    return Part(name, parameters, counter.get_total_flops() / 2, layers)


def parts(side: int, *, adapters: bool) -> list[Part]:
    """Rows of the model at a picture's side, with its adapters apart as in the paper or merged as we run it."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        cave, projector = CaVE(), nn.Linear(TOKEN_WIDTH, CONTEXT)
        vae = AutoencoderKL.from_config(dict(SD21_VAE)).eval()
        unet = UNet2DConditionModel.from_config(dict(SD21_UNET)).eval()
        if adapters:
            add_adapters(unet, unet_targets(unet), RANK)
            add_adapters(vae, vae_targets(vae), RANK)
        image = torch.empty(1, 3, side, side)
        latent = torch.empty(1, 4, side // LATENT_STRIDE, side // LATENT_STRIDE)
        tokens = torch.empty(1, (side // TOKEN_STRIDE) ** 2, TOKEN_WIDTH)
        timestep = torch.empty(1)
        encoder = [cave.m_head, cave.m_down1, cave.m_down2, cave.m_down3, cave.m_body_encoder]
        return [
            count("CaVE's encoder", encoder, lambda: cave.encode(image)),
            count("projector", [projector], lambda: projector(tokens)),
            count("VAE encoder", [vae.encoder, vae.quant_conv], lambda: vae.encode(image)),
            count("UNet", [unet], lambda: unet(latent, timestep, torch.empty(1, tokens.shape[1], CONTEXT))),
            count("VAE decoder", [vae.decoder, vae.post_quant_conv], lambda: vae.decode(latent)),
        ]


def table(rows: list[Part]) -> str:
    """Markdown, with a sum."""
    total = Part("**sum**", *(sum(row[field] for row in rows) for field in (1, 2, 3)))  # type: ignore[arg-type]
    lines = ["| part | parameters (M) | convolutions and linear layers (TMACs) | all (TMACs) |", "|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.parameters / 1e6:.1f} | {row.layer_macs / 1e12:.4f} | {row.macs / 1e12:.4f} |"
        for row in (*rows, total)
    ]
    return "\n".join(lines)


@click.command()
@click.option("--side", default=1024, show_default=True, help="Of the square picture, in pixels.")
def main(side: int) -> None:
    """Print the table, counted as the paper does and as the model runs here."""
    click.echo(f"{side}x{side}, adapters of rank {RANK} not merged (the paper: 1.00 G parameters, 9.46 T at 1024):\n")
    click.echo(table(parts(side, adapters=True)))
    click.echo("\nadapters merged, as an installed model runs:\n")
    click.echo(table(parts(side, adapters=False)))


if __name__ == "__main__":
    main()
