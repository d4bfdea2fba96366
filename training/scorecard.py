"""Stores measured scores in a model's card, where tests and people find them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codiff_batch.models.card import read_card

if TYPE_CHECKING:
    from training.evaluate import Score

DIGITS = {"psnr": 2, "psnr_b": 2, "ssim": 4, "lpips": 4, "dists": 4}


def by_qf(scores: Iterable[Score], model: str) -> dict[str, dict[str, float]]:
    """Mean scores of a model beside those of the JPEG itself, by QF.

    ``gain`` and ``worst_gain`` are in dB, ``qf_error`` is the mean distance of CaVE's estimate from the true QF.
    """
    scores = list(scores)
    table = {}
    for qf in sorted({score.qf for score in scores}):
        ours, plain = (_of(scores, name, qf) for name in (model, "jpeg"))
        gains = [one.psnr - other.psnr for one, other in zip(ours, plain, strict=True)]
        row = {"gain": round(float(np.mean(gains)), 2), "worst_gain": round(min(gains), 2)}
        row["qf_error"] = round(float(np.mean([abs(score.estimated_qf - qf) for score in ours])), 1)
        for name, digits in DIGITS.items():
            for suffix, rows in (("", ours), ("_jpeg", plain)):
                row[name + suffix] = round(float(np.mean([getattr(score, name) for score in rows])), digits)
        # NaN is what was not measured, infinity the PSNR of equal pictures; JSON has neither.
        table[str(qf)] = {name: value for name, value in row.items() if np.isfinite(value)}
    return table


def record(scores: Sequence[Score], folder: Path, name: str, protocol: str) -> None:
    """Store tables in the card of a model's folder, replacing earlier ones of the same names.

    One is of the model as it is, under ``name``; others are of amounts of its texture, under ``name, texture N``.

    Args:
        scores: of this model and of the JPEG itself, photo by photo.
        folder: the model's.
        name: of the set of photos.
        protocol: how they were measured, in words.
    """
    card = read_card(folder)
    tables: dict[str, Any] = {}
    for model in dict.fromkeys(score.model for score in scores):
        if model == card.name or model.startswith(f"{card.name}, "):
            tables[name + model.removeprefix(card.name)] = {"protocol": protocol, "by_qf": by_qf(scores, model)}
    replace(card, scores={**card.scores, **tables}).save(folder)


def _of(scores: Iterable[Score], model: str, qf: int) -> list[Score]:
    return [score for score in scores if score.model == model and score.qf == qf]
