"""Builds networks from a model folder. Weights are safetensors only; nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from codiff_batch.errors import ModelDamaged
from codiff_batch.models.card import ModelCard, read_card, sha256_of, verify
from codiff_batch.networks.compact_cave import CompactCaVE
from codiff_batch.networks.compact_unet import CompactUNet, PixelAutoencoder
from codiff_batch.networks.one_step import OneStepGenerator

WEIGHTS = "weights.safetensors"


class Networks(NamedTuple):
    """A model's two parts, in evaluation mode.

    ``cave(image)`` gives (tokens (B, K, D), QF (B,)); ``generator(image, tokens, **condition)`` gives an image.
    """

    cave: nn.Module
    generator: nn.Module


def build_compact(sizes: Mapping[str, Any]) -> Networks:
    """The compact model: CaVE over DCT statistics and a small UNet over folded pixels."""
    cave = CompactCaVE(sizes["cave_width"], sizes["cave_depth"], sizes["token_width"])
    autoencoder = PixelAutoencoder(sizes["factor"])
    unet = CompactUNet(3 * sizes["factor"] ** 2, sizes["widths"], sizes["depths"], sizes["context"])
    projector = nn.Linear(sizes["token_width"], sizes["context"])
    return Networks(cave, OneStepGenerator(autoencoder, unet, projector))


BUILDERS: Mapping[str, Callable[[Mapping[str, Any]], Networks]] = {"compact": build_compact}
"""Architectures by the name in the card."""


def build(card: ModelCard) -> Networks:
    """Networks of a card's architecture with fresh weights.

    Raises:
        ModelDamaged: the architecture or one of its sizes is not known to this version.
    """
    if card.architecture not in BUILDERS:
        raise ModelDamaged(f"model {card.name!r}: architecture {card.architecture!r} is not known to this version")
    try:
        return BUILDERS[card.architecture](card.sizes)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelDamaged(f"model {card.name!r}: sizes do not fit its architecture: {error!r}") from error


def load_networks(folder: Path) -> tuple[ModelCard, Networks]:
    """Load a model folder onto the CPU in 32-bit floats, after checking every checksum.

    Raises:
        ModelNotFound, ModelDamaged: the folder is not a usable model.
    """
    card = read_card(folder)
    verify(card, folder)
    networks = build(card)
    file = card.files_in(folder) / WEIGHTS
    try:
        weights = load_file(file)
        for part, module in networks._asdict().items():
            own = {key.removeprefix(f"{part}."): value for key, value in weights.items() if key.startswith(f"{part}.")}
            module.load_state_dict({key: value.float() for key, value in own.items()})
            module.eval().requires_grad_(False)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelDamaged(f"{file}: {str(error).splitlines()[0]}") from error
    return card, networks


def save_weights(networks: Networks, folder: Path, dtype: torch.dtype = torch.float16) -> dict[str, str]:
    """Write the networks' weights into a model folder; returns the card's ``files`` entry."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"{part}.{key}": value.detach().to("cpu", dtype).contiguous()
        for part, module in networks._asdict().items()
        for key, value in module.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)
    return {WEIGHTS: sha256_of(folder / WEIGHTS)}
