"""A processor's cores, shared out among several tiles at a time."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codiff_batch.engine import Request, Restorer, Result, lanes
from codiff_batch.engine.lanes import MEMORY_A_LANE, Lanes, choose_lanes
from codiff_batch.engine.tiling import Geometry
from codiff_batch.engine.torch_backend import TorchBackend
from tests import warm
from tests.faults.engine import Faulty
from tests.tiny_model import make_tiny_model

PLENTY = 64 * MEMORY_A_LANE


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    return Restorer.load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", tile=64), "cpu")


def in_lanes(tiny: Restorer, count: int, generator: nn.Module | None = None) -> Restorer:
    networks = tiny.networks._replace(generator=generator or tiny.networks.generator)
    card = tiny.card
    backend = TorchBackend(networks, torch.device("cpu"), card, lanes=Lanes(count, count))
    return Restorer.on(backend, card, Geometry(card.tile, card.overlap, card.multiple), most=1)


def pictures(count: int = 4) -> list[Request]:
    sizes = [(100, 130), (40, 50), (200, 90), (64, 64)]
    random = np.random.default_rng(0)
    return [Request(random.integers(0, 255, (*sizes[key % 4], 3)).astype(np.uint8), key=key) for key in range(count)]


def by_key(results: list[Result]) -> dict[object, Result]:
    return {result.request.key: result for result in results}


@pytest.mark.slow
def test_pictures_have_the_same_bytes_in_any_number_of_lanes(tiny: Restorer) -> None:
    alone = by_key(list(tiny.stream(pictures())))
    for count in (1, 2, 5):
        together = by_key(list(in_lanes(tiny, count).stream(pictures())))
        assert all(np.array_equal(together[key].levels, alone[key].levels) for key in alone)


def test_few_steps_get_more_threads_each_and_a_single_one_has_them_all() -> None:
    shared = Lanes(4, 8)
    threads = {steps: shared.submit(torch.get_num_threads, steps).result() for steps in (1, 2, 3, 4, 9)}
    assert threads == {1: 8, 2: 4, 3: 2, 4: 2, 9: 2}


@pytest.mark.slow
def test_a_picture_of_many_tiles_has_all_lanes_and_a_small_one_all_threads(tiny: Restorer) -> None:
    threads: list[int] = []

    class Counting(nn.Module):
        def forward(self, images: Tensor, tokens: Tensor, **condition: Tensor) -> Tensor:
            threads.append(torch.get_num_threads())
            return images

    restorer = in_lanes(tiny, 4, Counting())
    restorer.restore(np.zeros((40, 50, 3), np.uint8))
    assert threads == [4]
    threads.clear()
    restorer.restore(np.zeros((300, 300, 3), np.uint8))
    assert threads[:8] == [1] * 8


def test_the_lanes_work_at_the_same_time(tiny: Restorer) -> None:
    class Meeting(nn.Module):
        """Goes on only when as many steps are under way as there are lanes."""

        all_here = threading.Barrier(3)

        def forward(self, images: Tensor, tokens: Tensor, **condition: Tensor) -> Tensor:
            self.all_here.wait(30)
            return images

    meeting = Meeting()
    pixels = np.full((64, 64, 3), 200, np.uint8)
    requests = [Request(pixels, key=key) for key in range(3)]
    results = list(in_lanes(tiny, 3, meeting).stream(requests))
    assert all(np.array_equal(result.levels, pixels) for result in results)


def test_threads_that_start_later_have_all_of_torchs_threads() -> None:
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        Lanes(2, 2).submit(lambda: None, 2).result()
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert [torch.get_num_threads(), *seen] == [3, 3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fails",
    [
        lambda call, images: call == 2,
        lambda call, images: images.shape[-1] > 32,
        lambda call, images: call > 3 and images.shape[-1] > 32,
    ],
    ids=["once", "for every large tile", "for large tiles after some"],
)
def test_memory_that_runs_out_in_a_lane_makes_the_tiles_smaller(
    tiny: Restorer, fails: Callable[[int, Tensor], bool]
) -> None:
    faulty = Faulty(tiny.networks.generator, fails)
    restorer = in_lanes(tiny, 3, faulty)
    expected = by_key(list(tiny.stream(pictures())))
    ended = by_key(list(restorer.stream(pictures())))
    assert restorer.geometry.tile == 32, "halved once, however many lanes failed"
    for key, result in ended.items():
        assert result.error is None
        assert np.abs(result.levels - expected[key].levels).mean() < 3
    assert len(ended) == 4


@pytest.mark.slow
def test_no_memory_for_the_smallest_tile_fails_each_picture_with_its_reason(tiny: Restorer) -> None:
    faulty = Faulty(tiny.networks.generator, lambda call, images: True)
    ended = list(in_lanes(tiny, 3, faulty).stream(pictures()))
    assert ["out of memory on cpu" in str(result.error) for result in ended] == [True] * 4


@pytest.mark.slow
def test_an_error_in_a_lane_fails_its_picture_alone(tiny: Restorer) -> None:
    faulty = Faulty(tiny.networks.generator, lambda call, images: images.shape[-2] < 64, ValueError("no such tile"))
    ended = by_key(list(in_lanes(tiny, 3, faulty).stream(pictures())))
    assert {key: str(result.error) for key, result in ended.items() if result.error} == {1: "no such tile"}


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({1: 10, 2: 10.2, 4: 10.25}, None),
        ({1: 10, 2: 15, 4: 15.3}, 2),
        ({1: 10, 2: 10, 4: 20}, 4),
        ({1: 10, 2: 8, 4: 5}, None),
    ],
    ids=["more are hardly faster", "two", "four", "more are slower"],
)
def test_as_few_lanes_are_used_as_are_nearly_as_fast_as_the_best(
    rates: dict[int, float], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_rate", lambda shared: rates[shared.count])
    chosen = choose_lanes(PLENTY, tmp_path)
    assert (chosen and chosen.count) == expected


@pytest.mark.usefixtures("four_threads")
def test_the_number_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_rate", lambda shared: shared.count)
    assert choose_lanes(PLENTY, tmp_path).count == 4
    monkeypatch.setattr(lanes, "_rate", lambda shared: 1 / shared.count)
    assert choose_lanes(PLENTY, tmp_path).count == 4
    assert list(json.loads((tmp_path / "lanes.json").read_text()).values()) == [4]


@pytest.mark.usefixtures("four_threads")
def test_little_memory_means_fewer_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_rate", lambda shared: shared.count)
    assert choose_lanes(3 * MEMORY_A_LANE, tmp_path).count == 3
    assert choose_lanes(2 * MEMORY_A_LANE - 1, tmp_path) is None


@pytest.mark.slow
def test_threads_that_cannot_be_started_end_the_program_in_one_line() -> None:
    """Those that did start would wait for the others, and the program for them."""
    code = (
        "import threading\n"
        "from codiff_batch.engine.lanes import Lanes\n"
        "start, started = threading.Thread.start, []\n"
        "def few(thread):\n"
        "    if started: raise RuntimeError('can\\'t start new thread')\n"
        "    started.append(thread)\n"
        "    start(thread)\n"
        "threading.Thread.start = few\n"
        "Lanes(3, 3).submit(int, 3)"
    )
    ran = subprocess.run(warm.script(code), capture_output=True, text=True, timeout=60)
    assert "DeviceUnavailable: this program may start no more threads" in ran.stderr.splitlines()[-1]


@pytest.mark.usefixtures("four_threads")
def test_turns_that_take_long_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    monkeypatch.setattr(lanes, "SECONDS", 0.0)
    monkeypatch.setattr(lanes, "_rate", lambda shared: turns.append(shared.count) or shared.count)
    assert choose_lanes(PLENTY, tmp_path).count == 4
    assert turns == [1, 2, 4]


def test_a_single_thread_needs_no_measurement(tmp_path: Path) -> None:
    assert torch.get_num_threads() == 1, "as tests/conftest.py says"
    assert choose_lanes(PLENTY, tmp_path / "cache") is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_the_measurement_measures() -> None:
    assert lanes._rate(Lanes(2, 2)) > 0
    assert lanes._fastest(1) == 1
