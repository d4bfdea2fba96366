"""Stage 1: train CaVE by dual learning (paper, Section 3.2): predict the QF and restore the image from the embedding.

Run as ``python -m training.stage1 training/configs/compact-stage1.toml --photos DIR --out DIR``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codiff_batch.engine.device import choose_device
from codiff_batch.networks.compact_cave import CompactCaVE, ImplicitDecoder
from training.degradation import Recipe
from training.loop import Average, Batch, Run, Schedule, batches, read_config, to_device, train
from training.photos import Pixels, find_photos, load_photos


@dataclass(frozen=True)
class Stage1Config:
    """Settings of stage 1; the defaults train the compact CaVE on two CPU cores."""

    width: int = 128
    depth: int = 4
    token_width: int = 256
    explicit_weight: float = 1.0
    """Weight of |QF_pred - QF| / 100; 0 gives the paper's "implicit" ablation."""
    implicit_weight: float = 10.0
    """Weight of the restoration L1; 0 gives the paper's "explicit" ablation."""
    patch: int = 128
    batch: int = 16
    rate: float = 1e-3
    steps: int = 0
    minutes: float = 10.0
    seed: int = 1
    threads: int = 0
    recipe: Recipe = field(default_factory=Recipe)


class DualLearner(nn.Module):
    """CaVE with the decoder of the implicit objective."""

    def __init__(self, cave: CompactCaVE, decoder: ImplicitDecoder) -> None:
        super().__init__()
        self.cave, self.decoder = cave, decoder

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return (quality factor (B,), restored image)."""
        embedding = self.cave.embed(image)
        return self.cave.quality(embedding.tokens), self.decoder(image, embedding)


def build(config: Stage1Config) -> DualLearner:
    """The networks of stage 1 with fresh weights."""
    return DualLearner(
        CompactCaVE(config.width, config.depth, config.token_width),
        ImplicitDecoder(config.width, config.token_width),
    )


def objective(learner: DualLearner, batch: Batch, config: Stage1Config) -> tuple[Tensor, dict[str, float]]:
    """Dual loss L = explicit_weight * L_QF + implicit_weight * L_rec, and its parts for the curves."""
    qf, restored = learner(batch.compressed)
    explicit = F.l1_loss(qf, batch.qf) / 100
    implicit = F.l1_loss(restored, batch.clean)
    loss = config.explicit_weight * explicit + config.implicit_weight * implicit
    return loss, {"qf_error": 100 * explicit.item(), "restoration": implicit.item()}


def held_out_scores(learner: DualLearner, photos: list[Pixels], config: Stage1Config) -> dict[str, float]:
    """Mean absolute QF error on photos that are not trained on, over the recipe's own mix."""
    learner.eval()
    with torch.inference_mode():
        data = batches(photos, config.patch, 32, config.recipe, seed=0)
        errors = [
            (learner.cave(batch.compressed)[1] - batch.qf).abs() for batch, _ in zip(data, range(12), strict=False)
        ]
    learner.train()
    return {"qf_error": torch.cat(errors).mean().item()}


@click.command()
@click.argument("config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--photos", "folder", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Checkpoints and curves; an unfinished run there goes on.",
)
@click.option("--device", "device_name", default="auto", show_default=True)
def main(config_file: Path, folder: Path, out: Path, device_name: str) -> None:
    """Train CaVE on lossless photos."""
    config = read_config(config_file, Stage1Config)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = choose_device(device_name)
    learner = build(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(learner.parameters(), lr=config.rate, betas=(0.9, 0.98), weight_decay=1e-5)
    average = Average(learner, 0.999)
    run = Run(out, learner, optimizer, average)
    click.echo(f"{config_file.name}: {asdict(config)}, from step {run.step}")

    def step(batch: Batch) -> dict[str, float]:
        loss, parts = objective(learner, to_device(batch, device), config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 0.5)
        optimizer.step()
        return parts

    def validate() -> dict[str, float]:
        averaged = build(config)
        averaged.load_state_dict(average.weights)
        return held_out_scores(averaged, held_out, config)

    held_out = load_photos(find_photos(folder, held_out=True))
    photos = load_photos(find_photos(folder, held_out=False))
    data = batches(photos, config.patch, config.batch, config.recipe, seed=config.seed + run.step)
    train(run, Schedule(config.rate, config.steps, config.minutes), data, step, validate=validate, log=click.echo)


if __name__ == "__main__":
    main()
