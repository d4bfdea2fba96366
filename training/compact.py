"""Stage 2 of the compact model: train the one-step generator, with stage 1's CaVE going along.

Run as ``python -m training.compact training/configs/compact.toml --photos DIR --cave STAGE1_DIR --out DIR``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codiff_batch.engine.device import choose_device
from codiff_batch.networks.compact_cave import CompactCaVE
from codiff_batch.networks.compact_unet import CompactUNet, PixelAutoencoder
from codiff_batch.networks.one_step import OneStepGenerator
from training.degradation import Recipe
from training.loop import Average, Batch, Run, Schedule, batches, read_config, to_device, train
from training.photos import Pixels, find_photos, load_photos


@dataclass(frozen=True)
class CompactConfig:
    """Settings of the compact stage 2."""

    cave_width: int = 128
    cave_depth: int = 4
    token_width: int = 256
    context: int = 128
    widths: tuple[int, ...] = (48, 80, 128, 192)
    depths: tuple[int, ...] = (1, 2, 2, 2)
    qf_weight: float = 0.05
    """Weight of CaVE's |QF_pred - QF| / 100 beside the restoration loss."""
    cave_share: float = 0.3
    """CaVE's learning rate as a share of the generator's; 0 freezes it, as the paper does."""
    patch: int = 128
    batch: int = 8
    rate: float = 5e-4
    steps: int = 0
    minutes: float = 85.0
    seed: int = 1
    threads: int = 0
    recipe: Recipe = field(default_factory=Recipe)


class CompactCODiff(nn.Module):
    """CaVE and the one-step generator, trained together."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.cave = CompactCaVE(config.cave_width, config.cave_depth, config.token_width)
        autoencoder = PixelAutoencoder(2)
        unet = CompactUNet(12, config.widths, config.depths, config.context)
        self.generator = OneStepGenerator(autoencoder, unet, nn.Linear(config.token_width, config.context))

    def forward(self, image: Tensor, tables: Tensor) -> tuple[Tensor, Tensor]:
        """Return (restored image, quality factor (B,))."""
        tokens, qf = self.cave(image)
        return self.generator(image, tokens, tables=tables), qf


def charbonnier(restored: Tensor, clean: Tensor, epsilon: float = 1e-3) -> Tensor:
    """A smooth L1 (Charbonnier et al. 1994), as restoration networks commonly use it."""
    return torch.sqrt((restored - clean) ** 2 + epsilon**2).mean()


def objective(model: CompactCODiff, batch: Batch, config: CompactConfig) -> tuple[Tensor, dict[str, float]]:
    """Restoration loss plus the explicit QF loss, and what the curves show."""
    restored, qf = model(batch.compressed, batch.tables)
    restoration = charbonnier(restored, batch.clean)
    qf_error = F.l1_loss(qf, batch.qf) / 100
    gain = (psnr(restored.detach(), batch.clean) - psnr(batch.compressed, batch.clean)).mean()
    parts = {"restoration": restoration.item(), "qf_error": 100 * qf_error.item(), "gain": gain.item()}
    return restoration + config.qf_weight * qf_error, parts


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], per image; at most 60 dB (an untouched pair)."""
    error = (image.clamp(0, 1) - reference).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error.clamp(min=1e-6))


def held_out_scores(model: CompactCODiff, photos: list[Pixels], config: CompactConfig) -> dict[str, float]:
    """Gain over the JPEG in dB and mean QF error on photos that are not trained on."""
    model.eval()
    gains, errors, qfs = [], [], []
    with torch.inference_mode():
        for batch, _ in zip(batches(photos, 192, 8, config.recipe, seed=0), range(24), strict=False):
            restored, qf = model(batch.compressed, batch.tables)
            gains.append(psnr(restored, batch.clean) - psnr(batch.compressed, batch.clean))
            errors.append((qf - batch.qf).abs())
            qfs.append(batch.qf)
    gain, error, qf = torch.cat(gains), torch.cat(errors), torch.cat(qfs)
    scores = {"qf_error": error.mean().item()}
    for low, high in ((5, 15), (15, 40), (40, 70), (70, 90), (90, 101)):
        among = (qf >= low) & (qf < high)
        scores[f"gain_{low}_{high}"] = gain[among].mean().item()
        scores[f"worst_{low}_{high}"] = gain[among].min().item()
    return scores


@click.command()
@click.argument("config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--photos", "folder", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--cave", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of a finished stage 1."
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Checkpoints and curves; an unfinished run there goes on.",
)
@click.option("--device", "device_name", default="auto", show_default=True)
def main(config_file: Path, folder: Path, cave: Path | None, out: Path, device_name: str) -> None:
    """Train the compact generator on lossless photos."""
    config = read_config(config_file, CompactConfig)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = choose_device(device_name)
    model = CompactCODiff(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cave is not None:
        weights = torch.load(cave / "checkpoint.pt", weights_only=True, map_location="cpu")["average"]
        model.cave.load_state_dict({k.removeprefix("cave."): v for k, v in weights.items() if k.startswith("cave.")})
    groups = [{"params": list(model.generator.parameters()), "share": 1.0}]
    if config.cave_share:
        groups.append({"params": list(model.cave.parameters()), "share": config.cave_share})
    else:
        model.cave.requires_grad_(False)
    optimizer = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.98), weight_decay=1e-5)
    average = Average(model, 0.999)
    run = Run(out, model, optimizer, average)
    for group, asked in zip(optimizer.param_groups, groups, strict=True):
        group["share"] = asked["share"]  # a resumed run follows its configuration, not its checkpoint
    click.echo(f"{config_file.name}: {asdict(config)}, from step {run.step}")

    def step(batch: Batch) -> dict[str, float]:
        loss, parts = objective(model, to_device(batch, device), config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        optimizer.step()
        return parts

    def validate() -> dict[str, float]:
        averaged = CompactCODiff(config)
        averaged.load_state_dict(average.weights)
        return held_out_scores(averaged, held_out, config)

    held_out = load_photos(find_photos(folder, held_out=True))
    photos = load_photos(find_photos(folder, held_out=False))
    data = batches(photos, config.patch, config.batch, config.recipe, seed=config.seed + run.step)
    train(run, Schedule(config.rate, config.steps, config.minutes), data, step, validate=validate, log=click.echo)


if __name__ == "__main__":
    main()
