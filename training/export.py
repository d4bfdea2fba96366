"""Turn a finished compact training into a model folder: 16-bit safetensors and a model card.

Run as ``python -m training.export training/configs/compact.toml --run DIR --name NAME --out FOLDER``; one with texture
whose faithful half is already a model, as ``python -m training.export training/configs/texture.toml
--run DIR --name NAME --over FOLDER_OF_THE_FAITHFUL_ONE --out FOLDER_BESIDE_IT``. A faithful run takes the texture of a
model along with ``--texture-from MODEL_FOLDER``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import load_file
from torch import Tensor

from codiff_batch.models.card import VIEWS, ModelCard, read_card
from codiff_batch.models.loading import WEIGHTS, build, save_weights
from training.compact import TEXTURE_PREFIX, CompactConfig, start_weights, texture_weights
from training.config import read_config
from training.run import CHECKPOINT


def compact_card(
    config: CompactConfig,
    name: str,
    *,
    summary: str = "",
    views: int = 1,
    texture: float = 1.0,
    training: dict[str, Any],
    scores: dict[str, Any],
) -> ModelCard:
    """The card of a compact model, without its files."""
    return ModelCard(
        name=name,
        summary=summary,
        architecture="compact",
        sizes=config.sizes,
        tile=768,
        overlap=64,
        multiple=2 ** len(config.widths),
        licence="Apache-2.0",
        files={},
        views=views,
        texture=texture,
        uses_tables=True,
        fade=(93.0, 98.0),
        half_steps=True,
        scores=scores,
        training=training,
    )


def with_texture_of(folder: Path, card: ModelCard, weights: dict[str, Tensor]) -> tuple[ModelCard, dict[str, Tensor]]:
    """A faithful model's card and weights together with the texture network of a model folder.

    Raises:
        click.UsageError: that model adds no texture, or its texture goes by the tokens of another CaVE.
    """
    texture, theirs, sizes = texture_weights(folder), start_weights(folder), read_card(folder).sizes
    cave = [name for name in weights if name.startswith("cave.")]
    if not all(torch.equal(weights[name].half(), theirs[name].half()) for name in cave):
        raise click.UsageError(f"--texture-from {folder}: this run has changed the CaVE that its texture goes by")
    widths = list(sizes.get("texture_widths", sizes["widths"]))
    refines = {"texture_refines": True} if sizes.get("texture_refines") else {}
    return replace(card, sizes={**card.sizes, "texture": True, "texture_widths": widths, **refines}), weights | texture


TEXTURE = {"texture.safetensors": TEXTURE_PREFIX}
"""The card's fields for a model with texture."""


@click.command()
@click.argument("config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--run", "folder", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", default="compact", show_default=True)
@click.option("--summary", default="", help="One line for the list of models.")
@click.option("--views", default="1", type=click.Choice([str(n) for n in VIEWS]), help="Mirrored views to average.")
@click.option(
    "--texture",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Amount of texture by default.",
)
@click.option(
    "--notes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON with 'training' and 'scores' for the card.",
)
@click.option(
    "--over",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model folder of the faithful half, beside OUT; it is referred to instead of being written again.",
)
@click.option(
    "--texture-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model folder whose texture network a faithful run takes along; CaVE must be as it was there.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(
    config_file: Path,
    folder: Path,
    name: str,
    summary: str,
    views: str,
    texture: float,
    notes: Path | None,
    over: Path | None,
    texture_from: Path | None,
    out: Path,
) -> None:
    """Write the averaged weights of a run as a model folder."""
    if over is not None and not (over / WEIGHTS).is_file():
        raise click.UsageError(f"{over} has no {WEIGHTS} of its own")
    config = read_config(config_file, CompactConfig)
    if texture_from is not None and config.texture:
        raise click.UsageError("--texture-from goes with a faithful run, and this one has texture of its own")
    state = torch.load(folder / CHECKPOINT, weights_only=True, map_location="cpu")
    told = json.loads(notes.read_text(encoding="utf-8")) if notes else {}
    training = {"steps": state["step"], "minutes": round(state["seconds"] / 60, 1), **told.get("training", {})}
    card = compact_card(
        config,
        name,
        summary=summary,
        views=int(views),
        texture=texture,
        training=training,
        scores=told.get("scores", {}),
    )
    weights: dict[str, Tensor] = state["average"]
    if texture_from is not None:
        card, weights = with_texture_of(texture_from, card, weights)
    networks = build(card)
    for part, module in networks._asdict().items():
        prefix = f"{part}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    files = save_weights(networks, out, files={**(TEXTURE if card.sizes["texture"] else {}), WEIGHTS: ""})
    if over is not None:
        if not _same(load_file(out / WEIGHTS), load_file(over / WEIGHTS)):
            raise click.UsageError(f"the faithful half of {folder} is not {over}")
        (out / WEIGHTS).unlink()
        files[WEIGHTS] = read_card(over).files[WEIGHTS]
    replace(card, files=files, weights_of=over.name if over else "").save(out)
    click.echo(f"{out}: {name}, step {state['step']}")


def _same(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    """Return True if weights are equal in value; their bytes may differ, since averaging can turn a -0 into a 0."""
    return some.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in some.items())


if __name__ == "__main__":
    main()
