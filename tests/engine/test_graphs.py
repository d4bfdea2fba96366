"""Steps recorded as CUDA graphs, on a stand-in that replays operations on the tensors they were recorded with."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from codiff_batch.engine import Restorer
from codiff_batch.engine.graphs import MOST, Recorded
from codiff_batch.engine.memory import is_out_of_memory
from tests.faults.gpu import FakeGPUs
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.xdist_group("diffusers")  # which takes seconds to import, as the compiler does
GPU = torch.device("cuda:0")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What torch was asked to compile with; it compiles nothing."""
    asked: list[dict] = []
    monkeypatch.setattr(torch, "compile", lambda step, **how: asked.append(how) or step)
    return asked


def photo(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def step(images: Tensor, tokens: Tensor, condition: dict[str, Tensor]) -> Tensor:
    return images * 2 + tokens.sum() + condition["amount"].sum()


def given(gpus: FakeGPUs, value: float, tokens: int = 3) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    put = partial(gpus.put, place=GPU)
    return put(torch.full((1, 3, 4, 4), value)), put(torch.ones(1, tokens)), {"amount": put(torch.ones(1))}


@pytest.mark.slow
def test_compiled_networks_are_recorded_once_and_replayed_for_each_photo(
    monkeypatch: pytest.MonkeyPatch, model: Path, compiler: list[dict]
) -> None:
    plain = Restorer.load(model, "cpu", compiled=True)
    side = plain.card.tile
    photos = [photo(side, side, seed) for seed in range(3)]
    wanted = [plain.restore_levels(pixels) for pixels in photos]
    with FakeGPUs(monkeypatch) as gpus:
        restorer = Restorer.load(model, "cuda:1", compiled=True)
        for pixels, expected in zip(photos, wanted, strict=True):
            assert np.allclose(restorer.restore_levels(pixels), expected, atol=0.05)
        assert [graph.replays for graph in gpus.graphs] == [3]
    assert compiler == [{"dynamic": False}] * 2


@pytest.mark.slow
def test_nothing_is_recorded_without_being_asked_or_without_a_gpu(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    Restorer.load(model, "cpu", compiled=True).restore(photo(64, 64, 0))
    with FakeGPUs(monkeypatch) as gpus:
        Restorer.load(model, "cuda").restore(photo(64, 64, 0))
        assert not gpus.graphs


def test_a_result_stays_when_the_next_step_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGPUs(monkeypatch) as gpus, torch.inference_mode():
        recorded = Recorded(step, is_out_of_memory)
        first, second = (recorded(*given(gpus, value)) for value in (1.0, 5.0))
        assert (first == 6).all() and (second == 14).all()
        assert [graph.replays for graph in gpus.graphs] == [2]


def test_each_shape_has_its_graph_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGPUs(monkeypatch) as gpus, torch.inference_mode():
        recorded = Recorded(step, is_out_of_memory)
        for tokens in range(MOST + 4):
            assert (recorded(*given(gpus, 1.0, tokens)) == 3 + tokens).all()
        assert len(gpus.graphs) == MOST


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def looks(images: Tensor, tokens: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return images * tokens.sum().item()

    with FakeGPUs(monkeypatch) as gpus, torch.inference_mode():
        recorded = Recorded(looks, is_out_of_memory)
        for value in (1.0, 2.0):
            assert (recorded(*given(gpus, value)) == 3 * value).all()
        assert not gpus.graphs
    assert len(caplog.messages) == 1 and "without CUDA graphs" in caplog.messages[0]


@pytest.mark.slow
def test_graphs_are_dropped_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    with FakeGPUs(monkeypatch) as gpus:
        restorer = Restorer.load(model, "cuda", compiled=True, batch=2)
        side = restorer.card.tile
        pixels = photo(side, side, 0)
        expected = restorer.restore_levels(pixels)
        recorded = restorer._backend._recorded
        assert recorded.used
        gpus.cannot_record = torch.OutOfMemoryError("CUDA out of memory")
        fewer = photo(2 * side, 2 * side, 1)
        with pytest.raises(Exception, match="out of memory"):
            restorer.restore_levels(fewer)
        assert not recorded.used
        gpus.cannot_record = None
        assert np.allclose(restorer.restore_levels(pixels), expected, atol=1)  # In smaller tiles.
