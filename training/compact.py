"""Stage 2 of the compact model: train the one-step generator, with stage 1's CaVE going along.

Run as ``python -m training.compact training/configs/compact.toml --photos DIR --cave STAGE1_DIR --out DIR``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codiff_batch.engine.device import choose_device
from codiff_batch.models.loading import build_compact
from training.fit import Group, TrainingConfig, fit, prepare, stage_options
from training.loop import Batch, batches, read_config
from training.photos import Pixels


@dataclass(frozen=True)
class CompactConfig(TrainingConfig):
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
    clip: float = 0.3

    @property
    def sizes(self) -> dict[str, Any]:
        """The sizes that a model's card records."""
        return {
            "factor": 2,
            "cave_width": self.cave_width,
            "cave_depth": self.cave_depth,
            "token_width": self.token_width,
            "context": self.context,
            "widths": list(self.widths),
            "depths": list(self.depths),
        }


class CompactCODiff(nn.Module):
    """CaVE and the one-step generator, trained together."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.cave, self.generator = build_compact(config.sizes)

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
@stage_options
@click.option(
    "--cave", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of a finished stage 1."
)
def main(config_file: Path, photos: Path, cave: Path | None, out: Path, device: str) -> None:
    """Train the compact generator on lossless photos."""
    config = read_config(config_file, CompactConfig)
    prepare(config)
    where = choose_device(device)
    model = CompactCODiff(config).to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cave is not None:
        weights = torch.load(cave / "checkpoint.pt", weights_only=True, map_location="cpu")["average"]
        model.cave.load_state_dict({k.removeprefix("cave."): v for k, v in weights.items() if k.startswith("cave.")})
    fit(
        config,
        model,
        [Group(model.generator), Group(model.cave, config.cave_share)],
        lambda module, batch: objective(module, batch, config),
        fresh=lambda: CompactCODiff(config),
        scores=lambda module, held_out: held_out_scores(module, held_out, config),
        photos=photos,
        out=out,
        device=where,
    )


if __name__ == "__main__":
    main()
