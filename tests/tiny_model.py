"""A real model of tiny size with seeded random weights, for tests of everything around the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from codiff_batch.models.card import ModelCard
from codiff_batch.models.loading import build, save_weights

SIZES = {
    "factor": 2,
    "cave_width": 8,
    "cave_depth": 1,
    "token_width": 16,
    "context": 16,
    "widths": [8, 8, 8, 8],
    "depths": [1, 1, 1, 1],
}


def make_tiny_model(folder: Path, **changes: object) -> Path:
    """Write a model folder; its generator changes pixels by a few levels, so that its work can be seen."""
    torch.manual_seed(0)
    card = ModelCard(
        name=folder.name,
        summary="tiny random model for tests",
        architecture="compact",
        sizes=SIZES,
        tile=128,
        overlap=32,
        multiple=16,
        licence="Apache-2.0",
        files={},
        uses_tables=True,
    )
    card = replace(card, **changes)  # type: ignore[arg-type]
    networks = build(card)
    for name, weight in networks.generator.named_parameters():
        if name.endswith("unet.head.weight"):
            torch.nn.init.normal_(weight, std=0.01)
    replace(card, files=save_weights(networks, folder)).save(folder)
    return folder
