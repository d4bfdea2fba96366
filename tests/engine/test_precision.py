"""Which floats the networks compute in: as asked for, or what is faster here, and always the same."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codiff_batch.engine import Restorer, measured, precision
from codiff_batch.engine.measured import remembered
from codiff_batch.engine.precision import Precision, bfloat16_is_faster, choose_precision
from codiff_batch.errors import SettingRefused
from codiff_batch.models.card import ModelCard, read_card
from codiff_batch.models.install import full_card
from tests.tiny_model import make_tiny_model

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
BUNDLED = Path(__file__).parents[2] / "codiff_batch/models/bundled"
SINGLE, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16


@pytest.fixture
def small() -> ModelCard:
    return replace(read_card(BUNDLED / "fast"), half_steps=True)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    bfloat16_is_faster.cache_clear()
    monkeypatch.setattr(precision, "has_native_bfloat16", lambda: True)


@pytest.mark.parametrize(
    ("device", "asked", "expected"),
    [
        (CUDA, "auto", Precision(SINGLE, HALF)),
        (MPS, "auto", Precision(SINGLE)),
        (CPU, "fp32", Precision(SINGLE)),
        (CPU, "bf16", Precision(SINGLE, BRAIN)),
        (CUDA, "bf16", Precision(SINGLE, BRAIN)),
    ],
)
def test_a_small_model_keeps_its_picture_and_cave_in_32_bits(
    small: ModelCard, device: torch.device, asked: str, expected: Precision
) -> None:
    assert choose_precision(small, device, asked) == expected


@pytest.mark.parametrize("asked", ["", "fp8", "float32"])
def test_other_floats_are_refused_in_a_sentence(small: ModelCard, asked: str) -> None:
    with pytest.raises(SettingRefused, match="'precision' must be auto, fp32, bf16"):
        choose_precision(small, CPU, asked)


@pytest.mark.parametrize("faster", [True, False])
def test_auto_takes_what_was_measured_on_a_processor(
    small: ModelCard, monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    monkeypatch.setattr(precision, "bfloat16_is_faster", lambda: faster)
    assert choose_precision(small, CPU) == (Precision(SINGLE, BRAIN) if faster else Precision(SINGLE))
    assert choose_precision(replace(small, half_steps=False), CPU) == Precision(SINGLE)
    assert choose_precision(full_card("full", {}, {}), CPU) == Precision(BRAIN)


def test_a_measurement_is_kept_so_that_the_bytes_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_times_faster", lambda: 2.0)
    assert bfloat16_is_faster(tmp_path / "cache") is True
    bfloat16_is_faster.cache_clear()
    monkeypatch.setattr(precision, "_times_faster", lambda: 0.5)
    assert bfloat16_is_faster(tmp_path / "cache") is True
    bfloat16_is_faster.cache_clear()
    monkeypatch.setattr(measured, "processor", lambda: "another processor")
    assert bfloat16_is_faster(tmp_path / "cache") is False
    assert len(json.loads((tmp_path / "cache/bfloat16.json").read_text())) == 2


@pytest.mark.parametrize("damaged", ["", "[1]", '{"x": 3}', '{"x": "3"}', "[" * 100_000, '{"a":' * 100_000])
def test_a_damaged_or_missing_cache_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    (tmp_path / "bfloat16.json").write_text(damaged)
    monkeypatch.setattr(precision, "_times_faster", lambda: 2.0)
    assert bfloat16_is_faster(tmp_path) is True


def test_without_a_place_for_it_the_floats_are_those_of_every_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run might measure something else, and give other bytes."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(precision, "_times_faster", lambda: 2.0)
    assert bfloat16_is_faster(tmp_path / "file/below") is False
    assert remembered("lanes", lambda: 3, tmp_path / "file/below") == 3, "which changes no bytes"


def test_what_cannot_be_kept_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "lanes.json").mkdir()
    assert remembered("lanes", lambda: 3, tmp_path) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["lanes.json"]


def test_a_pipe_in_the_cache_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lanes.json")
    assert remembered("lanes", lambda: 3, tmp_path) == 3
    assert remembered("lanes", lambda: 4, tmp_path) == 3, "now a file"


@pytest.mark.slow
def test_the_measurement_measures() -> None:
    assert 0.01 < precision._times_faster() < 100


@pytest.mark.slow
def test_bfloat16_comes_near_to_32_bits_and_judges_alike(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny", half_steps=True)
    exact, rough = (Restorer.load(folder, "cpu", precision=floats) for floats in ("fp32", "bf16"))
    pixels = np.random.default_rng(0).integers(0, 255, (80, 100, 3)).astype(np.uint8)
    assert rough.precision == "bfloat16"
    assert rough.estimate_qf(pixels) == exact.estimate_qf(pixels)
    one, other = (restorer.restore_levels(pixels, qf=20) for restorer in (exact, rough))
    change = np.abs(one - pixels).mean()
    assert 0 < np.abs(one - other).mean() < 0.05 * change
    assert np.array_equal(other, rough.restore_levels(pixels, qf=20))
