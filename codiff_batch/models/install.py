"""Installs a model: its folder appears whole or not at all."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from codiff_batch import __version__
from codiff_batch.errors import CannotInstall
from codiff_batch.models.appearing import appearing, refuse_to_replace
from codiff_batch.models.card import ModelCard, sha256_of
from codiff_batch.models.catalogue import FULL_MODEL, user_models_dir
from codiff_batch.models.loading import save_weights
from codiff_batch.models.official import import_networks

FILES = {
    "cave.safetensors": "cave.",
    "vae.safetensors": "generator.autoencoder.",
    "unet.safetensors": "generator.unet.",
    "projector.safetensors": "generator.",
}
"""The file for each network, by the prefix of its weights' names."""

_NAME = re.compile(r"\w[\w.+-]*")
LONGEST_NAME = 200
"""Bytes; file systems take 255, and the name of a folder that is being installed is longer."""

SUMMARY = "The paper's CODiff on Stable Diffusion 2.1: restores texture; for GPUs"
LICENCE = "CreativeML Open RAIL++-M (Stable Diffusion 2.1); CODiff's adapters under their authors' terms"


def import_official(
    codiff: Path,
    cave: Path,
    base: Path,
    *,
    name: str = FULL_MODEL,
    base_source: str = "",
    precision: torch.dtype = torch.float16,
    replace_existing: bool = False,
    models_dir: Path | None = None,
) -> Path:
    """Install the authors' checkpoints as a model.

    Args:
        codiff, cave, base: see :func:`~codiff_batch.models.official.import_networks`.
        base_source: where the base model came from, for the card; its folder if empty.
        precision: of the stored weights, float16 or bfloat16.

    Returns:
        The model's folder.

    Raises:
        CannotInstall: with what is wrong; nothing is left behind.
    """
    folder = place_for(name, replace_existing=replace_existing, models_dir=models_dir)
    networks, sizes = import_networks(codiff, cave, base)
    provenance = {
        "imported": datetime.now(UTC).date().isoformat(),
        "by": f"codiff-batch {__version__}",
        "base": base_source or str(base),
        **{f"{told} sha256": sha256_of(file) for told, file in (("codiff.pkl", codiff), ("cave.pth", cave))},
        "changes": "adapters merged; CaVE's decoder and the base's text encoder left out",
    }
    with appearing(folder, replace=replace_existing) as partial:
        card = full_card(name, sizes, provenance)
        replace(card, files=save_weights(networks, partial, precision, FILES)).save(partial)
    return folder


def place_for(name: str, *, replace_existing: bool = False, models_dir: Path | None = None) -> Path:
    """Where a model of this name goes; asked before gigabytes are fetched for it.

    Raises:
        CannotInstall: it cannot be the name of a model, or there is one that may not be replaced.
    """
    if not _NAME.fullmatch(name) or len(os.fsencode(name)) > LONGEST_NAME:
        raise CannotInstall(f"{name!r} cannot be the name of a model")
    folder = user_models_dir(models_dir) / name
    if not replace_existing:
        refuse_to_replace(folder)
    return folder


def full_card(name: str, sizes: dict[str, Any], training: dict[str, Any]) -> ModelCard:
    """The card of a full CODiff, without its files."""
    return ModelCard(
        name=name,
        summary=SUMMARY,
        architecture="stable-diffusion",
        sizes=sizes,
        tile=768,
        overlap=128,
        multiple=64,
        licence=LICENCE,
        files={},
        colour_fix="adain",
        half_precision=True,
        embeds_tiles=True,
        # Measured on a CPU: 0.47 GB beside the weights for a tile of 512 pixels, in bfloat16; half as much again.
        working_memory=2700,
        # benchmarks/complexity.py, at 512 pixels.
        macs_per_pixel=9.2e6,
        training=training,
    )
