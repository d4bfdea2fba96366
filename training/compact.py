"""Stage 2 of the compact model: train the one-step generator together with stage 1's CaVE.

Run as ``python -m training.compact CONFIG --photos DIR --cave STAGE1_DIR --out DIR`` with ``configs/compact.toml``.
Texture is trained over a finished faithful generator, by LPIPS and DISTS as well: ``python -m training.compact
CONFIG --photos DIR --start FAITHFUL_DIR --networks DIR --out DIR`` with ``configs/texture.toml``; ``--texture-from``
takes the texture of another model or run along, to continue with that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codiff_batch.models.card import CARD_NAME
from codiff_batch.models.loading import build_compact, load_networks
from codiff_batch.perceptual import DISTS, LPIPS
from training.adversary import Adversary, CompactDiscriminator
from training.batches import Batch, held_out_batches
from training.config import read_config
from training.fit import Group, TrainingConfig, fit, prepare, stage_options
from training.losses import Loss, psnr
from training.patterns import HELD_OUT, KINDS, draw_patterns
from training.photos import Pixels
from training.run import averaged_weights
from training.stage1 import load_cave
from training.widening import widened

TEXTURE_PREFIX = "generator.texture."
"""How the names of the texture network's weights begin."""


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
    lpips_weight: float = 0.0
    """Weight of LPIPS on AlexNet beside the restoration loss."""
    dists_weight: float = 0.0
    """Weight of DISTS, the paper's perceptual loss, beside the restoration loss."""
    dists_patches: int = 2
    """How many patches of a batch DISTS sees: its VGG costs twenty times as much as AlexNet."""

    texture: bool = False
    """Whether to freeze the generator and train another one on top that adds texture."""
    texture_widths: tuple[int, ...] = ()
    """Widths of that other one; none are the generator's."""
    texture_refines: bool = False
    """Whether that other one sees the generator's correction."""
    gan_weight: float = 0.0
    """Weight of the generator's GAN loss; 5e-3 in the paper. 0 leaves the discriminator out."""
    gan_horizon: int = 400
    """The discriminator's timesteps end here; later ones bury a latent of plain pixels in noise."""
    prompt: Literal["cave", "learnable", "empty"] = "cave"
    """What guides the generator (the paper's Table 3): CaVE's tokens, one learned sequence for all, or zeros."""

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
            "texture": self.texture,
            **({"texture_widths": list(self.texture_widths)} if self.texture_widths else {}),
            **({"texture_refines": True} if self.texture_refines else {}),
        }


class Prompt(nn.Module):
    """What guides the generator: CaVE's tokens, or a substitute for them."""

    LEARNED_TOKENS = 16

    def __init__(self, kind: Literal["cave", "learnable", "empty"], width: int) -> None:
        super().__init__()
        self.kind = kind
        self.learned = nn.Parameter(torch.zeros(1, self.LEARNED_TOKENS, width)) if kind == "learnable" else None

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, K, width) for tokens of that shape, K maybe another."""
        if self.learned is not None:
            return self.learned.expand(len(tokens), -1, -1)
        return tokens if self.kind == "cave" else torch.zeros_like(tokens)


class CompactCODiff(nn.Module):
    """CaVE and the one-step generator, trained together."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.cave, self.generator = build_compact(config.sizes)
        self.prompt = Prompt(config.prompt, config.token_width)
        self._adds_texture = config.texture
        self._cave_learns = config.cave_share > 0

    @property
    def learning(self) -> nn.Module:
        """The part of the generator that learns."""
        return self.generator.texture if self._adds_texture else self.generator  # type: ignore[return-value]

    def forward(self, image: Tensor, tables: Tensor) -> tuple[Tensor, Tensor]:
        """Return (restored image, quality factor (B,))."""
        with torch.set_grad_enabled(self._cave_learns and torch.is_grad_enabled()):
            tokens, qf = self.cave(image)
        return self.generator(image, self.prompt(tokens), tables=tables), qf


class Perception(nn.Module):
    """The weighted sum of LPIPS and DISTS that a configuration asks for.

    Args:
        networks: folder of their backbones (see :mod:`codiff_batch.perceptual`); needed where a weight is not zero.
    """

    PHASES = 8

    def __init__(self, config: CompactConfig, networks: Path | None) -> None:
        super().__init__()
        self.config = config
        if (config.lpips_weight or config.dists_weight) and networks is None:
            raise click.UsageError("LPIPS and DISTS need --networks, the folder of their backbones")
        self.lpips = LPIPS(networks) if config.lpips_weight and networks else None
        self.dists = DISTS(networks) if config.dists_weight and networks else None
        if config.precision == "bf16":
            # Autocast would convert frozen weights again at every step.
            for metric in (self.lpips, self.dists):
                if metric is not None:
                    metric.backbone.to(torch.bfloat16)

    def forward(self, restored: Tensor, clean: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (loss, its parts) for images (B, 3, P, P) in [0, 1]."""
        # AlexNet samples every fourth pixel and the generator folds two by two: if their grids were aligned,
        # the generator would learn to hide regular dots between AlexNet's samples.
        top, left = (int(torch.randint(self.PHASES, ())) for _ in range(2))
        restored, clean = (image[:, :, top:, left:] for image in (restored, clean))
        loss, parts = restored.new_zeros(()), {}
        if self.lpips is not None:
            lpips = self.lpips(restored, clean).mean()
            loss, parts["lpips"] = loss + self.config.lpips_weight * lpips, lpips.detach()
        if self.dists is not None:
            some = slice(self.config.dists_patches)
            dists = self.dists(restored[some], clean[some]).mean()
            loss, parts["dists"] = loss + self.config.dists_weight * dists, dists.detach()
        return loss, parts


def build_adversary(config: CompactConfig) -> Adversary | None:
    """The discriminator that a configuration asks for."""
    if not config.gan_weight:
        return None
    return Adversary(CompactDiscriminator(3 * config.sizes["factor"] ** 2), config.gan_horizon)


def objective(
    model: nn.Module, batch: Batch, config: CompactConfig, perception: Perception, adversary: Adversary | None = None
) -> Loss:
    """Restoration loss plus the explicit QF loss, the perceptual ones and the GAN loss."""
    restored, qf = model(batch.compressed, batch.tables)
    restoration = rmse(restored, batch.clean)
    qf_error = F.l1_loss(qf, batch.qf) / 100
    perceptual, parts = perception(restored, batch.clean)
    total = restoration + config.qf_weight * qf_error + perceptual
    gain = (psnr(restored.detach(), batch.clean) - psnr(batch.compressed, batch.clean)).mean()
    parts |= {"restoration": restoration.detach(), "qf_error": 100 * qf_error.detach(), "gain": gain.detach()}
    if adversary is None:
        return Loss(total, parts)
    real, fake = (F.pixel_unshuffle(image * 2 - 1, config.sizes["factor"]) for image in (batch.clean, restored))
    fooling = adversary.generator_loss(fake)
    return Loss(total + config.gan_weight * fooling, parts | {"gan": fooling.detach()}, real, fake)


def rmse(restored: Tensor, clean: Tensor) -> Tensor:
    """Root of each patch's mean squared error, averaged, so that hard patches do not dominate."""
    return torch.sqrt((restored - clean).square().mean(dim=(1, 2, 3)) + 1e-6).mean()


@torch.inference_mode()
def held_out_scores(
    model: CompactCODiff, photos: list[Pixels], config: CompactConfig, perception: Perception
) -> dict[str, float]:
    """Gain over the JPEG in dB, mean QF error, and the perceptual distances, on held-out pictures."""
    gains, errors, qfs, distances = [], [], [], []
    device = next(model.parameters()).device
    for there in held_out_batches(photos, 192, 8, config.recipe, config.measured, device):
        restored, qf = model(there.compressed, there.tables)
        gains.append(psnr(restored, there.clean) - psnr(there.compressed, there.clean))
        errors.append((qf - there.qf).abs())
        qfs.append(there.qf)
        distances.append(perception(restored, there.clean)[1])
    gain, error, qf = torch.cat(gains), torch.cat(errors), torch.cat(qfs)
    scores = {"qf_error": error.mean().item()}
    scores |= {name: float(sum(parts[name] for parts in distances)) / len(distances) for name in distances[0]}
    for low, high in ((5, 15), (15, 40), (40, 70), (70, 90), (90, 101)):
        among = (qf >= low) & (qf < high)
        if among.any():
            scores[f"gain_{low}_{high}"] = gain[among].mean().item()
            scores[f"worst_{low}_{high}"] = gain[among].min().item()
    return scores


def start_weights(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of a run of this stage, or those of a compact model.

    Raises:
        ModelDamaged: a file of the model is not what its card says.
    """
    return load_networks(folder)[1].weights() if (folder / CARD_NAME).is_file() else averaged_weights(folder)


def texture_weights(folder: Path) -> dict[str, Tensor]:
    """The texture network's part of :func:`start_weights`.

    Raises:
        click.UsageError: there is none.
    """
    found = {name: value for name, value in start_weights(folder).items() if name.startswith(TEXTURE_PREFIX)}
    if not found:
        raise click.UsageError(f"--texture-from {folder}: this model adds no texture")
    return found


def load_start(model: CompactCODiff, weights: Mapping[str, Tensor]) -> None:
    """Continue from another run's weights; over a faithful model, texture starts as the faithful generator itself.

    Weights of a narrower model are widened. A faithful model takes the faithful half of one with texture.

    Raises:
        ValueError: the weights are of another model.
    """
    wanted = model.state_dict().keys()
    own = [name for name in wanted if name.startswith(TEXTURE_PREFIX)]
    starts = {name: weights.get(name.replace(TEXTURE_PREFIX, "generator.")) for name in own}
    told = {name: value for name, value in weights.items() if name in wanted or not name.startswith(TEXTURE_PREFIX)}
    model.load_state_dict(widened({**starts, **told}, model))


_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@stage_options
@click.option("--cave", type=_folder, help="Folder of a finished stage 1.")
@click.option("--start", type=_folder, help="Folder of a finished run of this stage, or of a model, to continue from.")
@click.option("--texture-from", type=_folder, help="Folder of a run or model whose texture to continue from.")
@click.option("--branch", type=_folder, help="Folder of a run to continue with its optimizers, on a new schedule.")
@click.option("--networks", type=_folder, help="Folder of the backbones of LPIPS and DISTS.")
def main(
    config_file: Path,
    photos: Path,
    cave: Path | None,
    start: Path | None,
    texture_from: Path | None,
    branch: Path | None,
    networks: Path | None,
    out: Path,
    device: str,
) -> None:
    """Train the compact generator on lossless photos."""
    config = read_config(config_file, CompactConfig)
    if texture_from is not None and not (start and config.texture):
        raise click.UsageError("--texture-from goes with --start and a configuration with texture = true")
    accelerator = prepare(config, device)
    model = CompactCODiff(config)
    if start is not None:
        load_start(model, start_weights(start) | (texture_weights(texture_from) if texture_from else {}))
    elif cave is not None:
        load_cave(model.cave, averaged_weights(cave))
    perception = Perception(config, networks).to(accelerator.device).eval().requires_grad_(False)
    adversary = build_adversary(config)
    drawn = draw_patterns(min(2 * len(KINDS), config.measured), HELD_OUT)

    def scores(held_out: list[Pixels]) -> dict[str, float]:
        on_patterns = held_out_scores(model, drawn, config, perception)
        return held_out_scores(model, held_out, config, perception) | {
            f"patterns_{name}": value for name, value in on_patterns.items()
        }

    fit(
        config,
        model,
        [Group(model.learning), Group(model.cave, config.cave_share), Group(model.prompt)],
        lambda module, batch: objective(module, batch, config, perception, adversary),
        adversary=adversary,
        scores=scores,
        photos=photos,
        out=out,
        branch=branch,
        accelerator=accelerator,
    )


if __name__ == "__main__":
    main()
