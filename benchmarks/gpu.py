"""The full model on a GPU: time and multiplications by part, whole photos, and a plain baseline.

Run as ``python -m benchmarks.gpu [--compile] [--memory-fraction 0.06]``. All in one run on one device, so that
ratios hold. Weights are random, which does not affect the time. ``--tiny --device cpu`` rehearses every step with a
tiny model.

Everything runs with the product's own flags for torch. The baseline is a plain implementation of the paper's
description: eager, adapters not merged, the embedding of the whole photo, one 96-latent tile at a time with 32 of
overlap through the UNet, the VAE by diffusers' own tiling. It does less work than the authors' own tiled path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from benchmarks.complexity import RANK, Part, count
from benchmarks.smoke import Checks, synchronize
from codiff_batch.engine import Restorer
from codiff_batch.engine.device import as_current, choose_device
from codiff_batch.engine.exact import exactly
from codiff_batch.engine.memory import give_back, is_out_of_memory
from codiff_batch.engine.precision import choose_precision
from codiff_batch.engine.tiling import Geometry
from codiff_batch.models.card import ModelCard
from codiff_batch.models.install import full_card
from codiff_batch.models.loading import ARCHITECTURES, Networks
from codiff_batch.models.official import add_adapters, unet_targets, vae_targets
from codiff_batch.networks.one_step import TIMESTEP, clean_latent
from codiff_batch.networks.stable_diffusion import SD21_UNET, SD21_VAE

FULL = {"unet": dict(SD21_UNET), "vae": dict(SD21_VAE), "cave_widths": [64, 128, 256, 512], "cave_depth": 4}
TINY = {
    "unet": {
        **SD21_UNET,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [8, 8],
        "attention_head_dim": [2, 2],
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "norm_num_groups": 4,
    },
    "vae": {**SD21_VAE, "block_out_channels": [8, 8, 8, 8], "layers_per_block": 1, "norm_num_groups": 4},
    "cave_widths": [8, 8, 8, 16],
    "cave_depth": 1,
}
"""Each kind of block once."""

LATENT_TILE, LATENT_OVERLAP = 96, 32


def networks_of(sizes: dict[str, Any], device: torch.device, precision: torch.dtype) -> Networks:
    """The full model with random weights, created on its device."""
    with torch.device(device):
        made = ARCHITECTURES["stable-diffusion"].build(sizes)
    return Networks(*(part.to(device, precision).eval().requires_grad_(False) for part in made))


def seconds(work: Callable[[], object], device: torch.device, runs: int) -> float:
    """Median of several runs after two warm-ups."""
    times = []
    for _ in range(runs + 2):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return float(np.median(times[2:]))


def peak_gigabytes(device: torch.device) -> float:
    """Peak memory of tensors since the last call; 0 on a CPU."""
    if device.type != "cuda":
        return 0.0
    peak: float = torch.cuda.max_memory_allocated(device) / 1e9
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def matmul_ceiling(device: torch.device, precision: torch.dtype, runs: int, side: int) -> float:
    """Multiplications per second of a large matrix product: the card's practical ceiling."""
    a, b = (torch.randn(side, side, device=device, dtype=precision) for _ in range(2))
    return side**3 / seconds(lambda: a @ b, device, runs)


def steps(networks: Networks, side: int, batch: int, device: torch.device, precision: torch.dtype) -> Iterator[Any]:
    """Name, modules and call of each part of the chain."""
    generator = networks.generator
    autoencoder, unet, projector = generator.autoencoder, generator.unet, generator.projector
    image = torch.rand(batch, 3, side, side, device=device, dtype=precision)
    image = image.contiguous(memory_format=torch.channels_last)
    tokens = networks.cave(image)[0]
    latent = autoencoder.encode(image)  # type: ignore[union-attr,operator]
    yield "CaVE", [networks.cave], lambda: networks.cave(image)
    yield "VAE encoder", [], lambda: autoencoder.encode(image)  # type: ignore[union-attr,operator]
    yield "UNet", [unet, projector], lambda: unet(latent, TIMESTEP, projector(tokens))  # type: ignore[operator]
    yield "VAE decoder", [], lambda: autoencoder.decode(latent)  # type: ignore[union-attr,operator]


class Baseline:
    """The paper's description, taken literally."""

    def __init__(self, networks: Networks) -> None:
        self.cave, generator = networks
        self.vae, self.unet = generator.autoencoder.vae, generator.unet.unet  # type: ignore[union-attr]
        self.projector = generator.projector
        add_adapters(self.unet, unet_targets(self.unet), RANK)  # type: ignore[arg-type]
        add_adapters(self.vae, vae_targets(self.vae), RANK)  # type: ignore[arg-type]
        weight = next(self.vae.parameters())  # type: ignore[union-attr,operator]
        for network in (self.unet, self.vae):
            network.to(weight.device, weight.dtype).requires_grad_(False)  # type: ignore[union-attr,operator]

    @torch.inference_mode()
    def restore(
        self, pixels: np.ndarray[Any, Any], device: torch.device, precision: torch.dtype
    ) -> np.ndarray[Any, Any]:
        """Restore (H, W, 3), sides multiples of 64."""
        image = torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].to(precision) / 255
        self.vae.enable_tiling()  # type: ignore[union-attr,operator]
        context = self.projector(self.cave(image)[0])  # type: ignore[operator]
        scale = self.vae.config["scaling_factor"]  # type: ignore[union-attr,index]
        latent = self.vae.encode(image * 2 - 1).latent_dist.mode() * scale  # type: ignore[union-attr,operator,index]
        noise, weights = torch.zeros_like(latent), torch.zeros_like(latent[:, :1])
        height, width = latent.shape[-2:]
        for top in _starts(height):
            for left in _starts(width):
                part = latent[..., top : top + LATENT_TILE, left : left + LATENT_TILE]
                mask = _bump(part)
                seen = self.unet(part, TIMESTEP, context).sample  # type: ignore[operator]
                noise[..., top : top + LATENT_TILE, left : left + LATENT_TILE] += seen * mask
                weights[..., top : top + LATENT_TILE, left : left + LATENT_TILE] += mask
        restored = self.vae.decode(clean_latent(latent, noise / weights) / scale).sample  # type: ignore[union-attr,operator]
        levels: np.ndarray[Any, Any] = ((restored[0] + 1) * 127.5).clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
        return levels


def _starts(length: int) -> list[int]:
    if length <= LATENT_TILE:
        return [0]
    step = LATENT_TILE - LATENT_OVERLAP
    return [*range(0, length - LATENT_TILE, step), length - LATENT_TILE]


def _bump(part: Tensor) -> Tensor:
    """Gaussian weights of variance 0.01 over a tile of unit width, as the paper's blending has them."""
    rows, columns = (
        torch.exp(-(((torch.arange(n, device=part.device) + 0.5) / n - 0.5) ** 2) / 0.02) for n in part.shape[-2:]
    )
    return torch.outer(rows, columns).clamp(min=1e-6).to(part.dtype)


@click.command()
@click.option("--device", "device_name", default="auto", show_default=True)
@click.option("--tiny", is_flag=True, help="A tiny model and small pictures, to rehearse.")
@click.option("--compile", "compiled", is_flag=True, help="Have torch compile the networks for whole photos.")
@click.option(
    "--memory-fraction", type=click.FloatRange(0, 1), help="Take no more than this share of the GPU's memory."
)
@click.option("--runs", default=5, show_default=True)
def main(device_name: str, tiny: bool, compiled: bool, memory_fraction: float | None, runs: int) -> None:
    """Print the tables."""
    device = choose_device(device_name)
    card = full_card("codiff-sd21", FULL if not tiny else TINY, {})
    precision = choose_precision(card, device).weights
    if memory_fraction is not None and device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(memory_fraction, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    torch.manual_seed(0)
    with exactly(), as_current(device):
        measure(card, device, name, precision, compiled=compiled, tiny=tiny, runs=runs)


def measure(
    card: ModelCard, device: torch.device, name: str, precision: torch.dtype, *, compiled: bool, tiny: bool, runs: int
) -> None:
    """Print everything."""
    ceiling = matmul_ceiling(device, precision, runs, 512 if tiny else 8192)
    click.echo(f"{name}, {precision}, torch {torch.__version__}; matmul ceiling {ceiling / 1e12:.2f} TMACs/s\n")

    sizes = [(64, 64), (64, 832)] if tiny else [(1024, 1024), (2880, 4160), (5760, 8320)]
    pictures = [np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8) for size in sizes]
    # Each in a function of its own, so that nothing of one is in memory during the next.
    tile, ours = measure_ours(card, pictures, device, precision, ceiling, compiled=compiled, tiny=tiny, runs=runs)
    give_back(device)
    plain = measure_baseline(card, pictures, device, precision, runs)
    click.echo(f"\ntiles of {tile.tile} with {tile.overlap} of overlap\n")
    click.echo("| photo | s | peak GB | baseline s | baseline peak GB | times faster |\n|---|---|---|---|---|---|")
    for pixels, own, other in zip(pictures, ours, plain, strict=True):
        size = f"{pixels.shape[1]}x{pixels.shape[0]} ({pixels.shape[0] * pixels.shape[1] / 1e6:.1f} MP)"
        faster = f"{other[0] / own[0]:.1f}" if own and other else ""
        click.echo(f"| {size} | {cells(own)} | {cells(other)} | {faster} |")
    click.echo()
    checks = Checks(device)
    for part, check in checks.parts():
        checks.run(part, check)


Measured = tuple[float, float] | None
"""Seconds and peak gigabytes; None where memory ran out."""


def cells(measured: Measured) -> str:
    """Two cells of the table."""
    return f"{measured[0]:.3f} | {measured[1]:.2f}" if measured else "out of memory | "


def measured(work: Callable[[], object], device: torch.device, runs: int) -> Measured:
    """Measure work that may run out of memory."""
    peak_gigabytes(device)
    try:
        return seconds(work, device, runs), peak_gigabytes(device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    give_back(device)
    return None


def measure_ours(
    card: ModelCard,
    pictures: list[np.ndarray[Any, Any]],
    device: torch.device,
    precision: torch.dtype,
    ceiling: float,
    *,
    compiled: bool,
    tiny: bool,
    runs: int,
) -> tuple[Geometry, list[Measured]]:
    """Print the table of parts, and measure whole photos, from pixels in memory to levels in memory."""
    networks = networks_of(dict(card.sizes), device, precision)
    ARCHITECTURES["stable-diffusion"].specialize(networks)
    restorer = Restorer(card, networks, device, compiled=compiled)
    click.echo("| tile | batch | part | ms | TMACs/s | of the ceiling |\n|---|---|---|---|---|---|")
    for side in (64, 128) if tiny else (512, 768, 1024):
        for batch in (1, 2) if tiny else (1, 4, 8):
            if not measure_parts(networks, side, batch, device, precision, ceiling, runs):
                click.echo(f"| {side} | {batch} | out of memory | | | |")
    whole = [whole_photo(restorer, pixels, device, max(1, runs // 2)) for pixels in pictures]
    return restorer.geometry, whole


@torch.inference_mode()
def measure_parts(
    networks: Networks,
    side: int,
    batch: int,
    device: torch.device,
    precision: torch.dtype,
    ceiling: float,
    runs: int,
) -> bool:
    """Print the parts' lines at one size; return False where memory ran out."""
    try:
        for row in steps(networks, side, batch, device, precision):
            echo_part(count(*row), side, batch, seconds(row[2], device, runs), ceiling)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    give_back(device)
    return False


def measure_baseline(
    card: ModelCard, pictures: list[np.ndarray[Any, Any]], device: torch.device, precision: torch.dtype, runs: int
) -> list[Measured]:
    """Measure whole photos as :class:`Baseline` restores them."""
    baseline = Baseline(networks_of(dict(card.sizes), device, precision))
    return [
        measured(lambda p=pixels: baseline.restore(p, device, precision), device, max(1, runs // 2))  # type: ignore[misc]
        for pixels in pictures
    ]


def whole_photo(restorer: Restorer, pixels: np.ndarray[Any, Any], device: torch.device, runs: int) -> Measured:
    """Measure one photo."""
    embedding = restorer.embed(pixels)
    return measured(lambda: restorer.restore_levels(pixels, embedding=embedding), device, runs)


def echo_part(part: Part, side: int, batch: int, taken: float, ceiling: float) -> None:
    """One line of the first table."""
    rate = part.macs / taken
    click.echo(f"| {side} | {batch} | {part.name} | {1e3 * taken:.2f} | {rate / 1e12:.2f} | {rate / ceiling:.0%} |")


if __name__ == "__main__":
    main()
