"""What a GPU asks of the engine, tried on stand-ins that refuse what the real one refuses."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend

from codiff_batch.engine import Request, Restorer, memory
from codiff_batch.engine.device import choose_device
from codiff_batch.engine.memory import free_memory, is_out_of_memory, total_memory
from codiff_batch.errors import DeviceUnavailable
from tests.faults.gpu import FakeGPUs
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (100, 130, 3)).astype(np.uint8)


def expected(model: Path, pixels: np.ndarray, **settings: float) -> np.ndarray:
    return Restorer.load(model, "cpu").restore_levels(pixels, **settings)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_without_a_number_is_the_current_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with FakeGPUs(monkeypatch) as gpus:
        gpus.current = 1
        assert choose_device(name) == torch.device("cuda:1")


def test_memory_can_be_asked_for_of_a_gpu_without_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGPUs(monkeypatch, free=5 << 30):
        assert free_memory(torch.device("cuda")) == 5 << 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0", "cuda:1"])
def test_a_gpu_gives_what_a_processor_gives(
    monkeypatch: pytest.MonkeyPatch, model: Path, pixels: np.ndarray, name: str
) -> None:
    """The buffer of a result is garbage until the stream that fills it has been waited for."""
    wanted = expected(model, pixels)
    with FakeGPUs(monkeypatch) as gpus:
        restorer = Restorer.load(model, name)
        levels = restorer.restore_levels(pixels)
        assert np.allclose(levels, wanted, atol=0.01)
        assert gpus.used == {restorer._backend.device.index}  # no context, which takes memory, on another one
        assert gpus.current == 0


@pytest.mark.slow
def test_a_gpu_with_memory_lets_more_photos_in(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    machine = {"total": 128 << 30}
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=64 << 30, **machine))
    with FakeGPUs(monkeypatch):
        restorer = Restorer.load(model, "cuda")
        assert restorer.pixels_under_way == pytest.approx(0.05 * (8 << 30) / 12, rel=0.01), "by the GPU's memory"
        machine["total"] = 4 << 30
        assert restorer.pixels_under_way == pytest.approx(0.2 * (4 << 30) / 60, rel=0.01), "by the machine's"
    assert Restorer.load(model, "cpu").pixels_under_way == 0


@pytest.mark.slow
def test_a_host_program_may_pass_a_gpu_without_a_number(
    monkeypatch: pytest.MonkeyPatch, model: Path, pixels: np.ndarray
) -> None:
    wanted = expected(model, pixels)
    loaded = Restorer.load(model, "cpu")
    with FakeGPUs(monkeypatch):
        restorer = Restorer(loaded.card, loaded.networks, torch.device("cuda"))
        assert np.allclose(restorer.restore_levels(pixels), wanted, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first"), [("cuda:0", SDPBackend.FLASH_ATTENTION), ("cuda:1", SDPBackend.CUDNN_ATTENTION)]
)
def test_attention_takes_cudnns_kernel_first_from_hopper_on(
    monkeypatch: pytest.MonkeyPatch, model: Path, pixels: np.ndarray, name: str, first: SDPBackend
) -> None:
    orders = []
    before = torch._C._get_sdp_priority_order()
    with FakeGPUs(monkeypatch):
        restorer = Restorer.load(model, name)
        step = restorer._backend._step

        def watched(*arguments: object) -> torch.Tensor:
            orders.append(torch._C._get_sdp_priority_order())
            return step(*arguments)

        monkeypatch.setattr(restorer._backend, "_step", watched)
        restorer.restore_levels(pixels)
    assert {SDPBackend(order[0]) for order in orders} == {first}
    assert torch._C._get_sdp_priority_order() == before


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "chosen"), [("mps", "mps"), ("xpu", "xpu:1")])
def test_apples_and_intels_gpus_get_pixels_that_were_waited_for(
    monkeypatch: pytest.MonkeyPatch, model: Path, pixels: np.ndarray, kind: str, chosen: str
) -> None:
    wanted = expected(model, pixels, strength=0.5)
    with FakeGPUs(monkeypatch, kind=kind) as gpus:
        gpus.current = int(kind == "xpu")
        restorer = Restorer.load(model, "auto")
        assert restorer.device == chosen
        assert np.allclose(restorer.restore_levels(pixels, strength=0.5), wanted, atol=0.01)


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_a_gpu_that_is_not_there_is_refused_with_how_many_there_are(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with FakeGPUs(monkeypatch, kind=kind):
        assert choose_device(f"{kind}:1") == torch.device(kind, 1)
        with pytest.raises(DeviceUnavailable, match=rf"'{kind}:2' is not available: 2 \w+ device\(s\) found"):
            choose_device(f"{kind}:2")


@pytest.mark.skipif(choose_device("auto").type != "cpu", reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "xpu", "xpu:0", "mps"])
def test_a_machine_without_gpus_says_so(name: str) -> None:
    with pytest.raises(DeviceUnavailable, match=r"not available"):
        choose_device(name)


def test_intels_gpu_has_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGPUs(monkeypatch, kind="xpu", free=5 << 30):
        assert free_memory(torch.device("xpu")) == 5 << 30
        assert total_memory(torch.device("xpu", 1)) == 8 << 30


@pytest.mark.slow
def test_the_next_photo_is_drawn_while_the_one_before_is_worked_on(
    monkeypatch: pytest.MonkeyPatch, model: Path, pixels: np.ndarray
) -> None:
    with FakeGPUs(monkeypatch) as gpus:
        restorer = Restorer.load(model, "cuda")
        embedding = restorer.embed(pixels)
        gpus.log.clear()

        def requests() -> Iterator[Request]:
            for key in range(6):
                gpus.log.append("drawn")
                yield Request(pixels[:64, :64], embedding, key=key)

        results = {result.request.key: np.asarray(result.levels) for result in restorer.stream(requests())}
    assert all(np.array_equal(levels, results[0]) for levels in results.values())
    # Two photos are on the device before the first is waited for, and a drawn one is begun before the next wait.
    started = [index for index, what in enumerate(gpus.log) if what == "wait"]
    assert gpus.log[: started[0]].count("drawn") >= 2
    assert gpus.log.count("drawn") == 6


def test_judging_does_not_wait_for_what_is_being_restored(
    monkeypatch: pytest.MonkeyPatch, model: Path, pixels: np.ndarray
) -> None:
    with FakeGPUs(monkeypatch) as gpus:
        restorer = Restorer.load(model, "cuda")
        main = gpus.stream(None)
        main.waiting.append(lambda: None)  # something long
        embedding = restorer.embed(pixels)
        assert main.waiting, "the queue was not drained"
        # The tokens are read on the queue's stream, so their memory is kept for it.
        assert [stream for _, stream in gpus.held] == [main]
        assert 0 <= embedding.qf <= 100


@pytest.mark.slow
def test_a_model_that_is_dropped_is_gone_at_once(model: Path, pixels: np.ndarray) -> None:
    restorer = Restorer.load(model, "cpu")
    restorer.restore(pixels)
    weights = weakref.ref(next(restorer.networks.generator.parameters()))
    gc.collect()
    gc.disable()
    try:
        del restorer
        assert weights() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB",
        "CUDA error: out of memory",
        "MPS backend out of memory (MPS allocated: 17.00 GB)",
        "GET was unable to find an engine to execute this computation",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_running_out_of_memory_is_understood_in_all_its_words(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))


@pytest.mark.parametrize(
    "words", ["CUDA error: an illegal memory access was encountered", "CUDNN_STATUS_BAD_PARAM", "shape mismatch"]
)
def test_other_errors_are_not_taken_for_it(words: str) -> None:
    assert not is_out_of_memory(RuntimeError(words))


@pytest.mark.parametrize(
    "number", ["", "1" * 5000, "-1", "٣", "1:2", " 0"], ids=["none", "long", "-1", "Arabic", "two", "blank"]
)
def test_odd_numbers_of_devices_get_one_line(number: str) -> None:
    with pytest.raises(DeviceUnavailable, match="is not one of"):
        choose_device(f"cuda:{number}")
