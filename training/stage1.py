"""Stage 1: train CaVE by dual learning (paper, Section 3.2): predict the QF and restore the image from the embedding.

Run as ``python -m training.stage1 training/configs/compact-stage1.toml --photos DIR --out DIR``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codiff_batch.networks.cave import DualCaVE
from codiff_batch.networks.compact_cave import CompactCaVE, ImplicitDecoder
from training.batches import Batch, held_out_batches
from training.config import read_config
from training.fit import Group, TrainingConfig, fit, prepare, stage_options
from training.losses import Loss
from training.photos import Pixels


@dataclass(frozen=True)
class Stage1Config(TrainingConfig):
    """Settings of stage 1; the defaults train the compact CaVE on two CPU cores."""

    layout: Literal["compact", "paper"] = "compact"
    """Which CaVE: the compact one over DCT statistics, or the authors'."""
    width: int = 128
    depth: int = 4
    token_width: int = 256
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """Of the authors' layout, in place of ``width`` and ``token_width``."""
    explicit_weight: float = 1.0
    """Weight of |QF_pred - QF| / 100; 0 gives the paper's "implicit" ablation."""
    implicit_weight: float = 10.0
    """Weight of the restoration L1; 0 gives the paper's "explicit" ablation."""
    batch: int = 16
    rate: float = 1e-3
    measured: int = 384


class DualLearner(nn.Module):
    """CaVE with the decoder of the implicit objective."""

    def __init__(self, cave: CompactCaVE, decoder: ImplicitDecoder) -> None:
        super().__init__()
        self.cave, self.decoder = cave, decoder

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return (quality factor (B,), restored image)."""
        embedding = self.cave.embed(image)
        return self.cave.quality(embedding.tokens), self.decoder(image, embedding)


class PaperLearner(nn.Module):
    """CaVE in the authors' layout, which has its decoder in it."""

    def __init__(self, cave: DualCaVE) -> None:
        super().__init__()
        self.cave = cave

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return (quality factor (B,), restored image)."""
        restored, qf = self.cave.restore(image)
        return qf, restored


def load_cave(cave: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load what a stage 1 has learned into a CaVE of its layout."""
    cave.load_state_dict({name.removeprefix("cave."): w for name, w in weights.items() if name.startswith("cave.")})


def build(config: Stage1Config) -> DualLearner | PaperLearner:
    """The networks of stage 1 with fresh weights."""
    if config.layout == "paper":
        return PaperLearner(DualCaVE(config.widths, config.depth))
    return DualLearner(
        CompactCaVE(config.width, config.depth, config.token_width),
        ImplicitDecoder(config.width, config.token_width),
    )


def objective(learner: nn.Module, batch: Batch, config: Stage1Config) -> Loss:
    """Dual loss L = explicit_weight * L_QF + implicit_weight * L_rec, and its parts for the curves."""
    qf, restored = learner(batch.compressed)
    explicit = F.l1_loss(qf, batch.qf) / 100
    implicit = F.l1_loss(restored, batch.clean)
    loss = config.explicit_weight * explicit + config.implicit_weight * implicit
    return Loss(loss, {"qf_error": 100 * explicit.detach(), "restoration": implicit.detach()})


@torch.inference_mode()
def held_out_scores(
    learner: DualLearner | PaperLearner, photos: list[Pixels], config: Stage1Config
) -> dict[str, float]:
    """Mean absolute QF error on held-out photos, over the recipe's own mix."""
    device = next(learner.parameters()).device
    data = held_out_batches(photos, config.patch, 32, config.recipe, config.measured, device)
    errors = [(learner.cave(batch.compressed)[1] - batch.qf).abs() for batch in data]
    return {"qf_error": torch.cat(errors).mean().item()}


@click.command()
@stage_options
def main(config_file: Path, photos: Path, out: Path, device: str) -> None:
    """Train CaVE on lossless photos."""
    config = read_config(config_file, Stage1Config)
    accelerator = prepare(config, device)
    learner = build(config)
    fit(
        config,
        learner,
        [Group(learner)],
        lambda module, batch: objective(module, batch, config),
        scores=lambda held_out: held_out_scores(learner, held_out, config),
        photos=photos,
        out=out,
        accelerator=accelerator,
    )


if __name__ == "__main__":
    main()
