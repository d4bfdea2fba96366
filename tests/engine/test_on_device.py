"""The constraint and the rounding on a GPU: the same rule as on the host, by the same code, tried on a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codiff_batch.engine import Restorer, Settled, restore_photo
from codiff_batch.engine.on_device import OnDevice, TorchArrays
from codiff_batch.engine.photo import Decoded, judged
from codiff_batch.engine.settling import settled
from codiff_batch.jpeg import JpegPhoto, cut, project_to_cells
from codiff_batch.settings import Settings
from tests.faults.gpu import FakeGPUs
from tests.jpeg.samples import jpeg, picture
from tests.tiny_model import make_tiny_model

CPU = torch.device("cpu")


class There(torch.Tensor):
    """A tensor that refuses to be computed with one that is not on its device."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        strangers = [each for each in args if type(each) is torch.Tensor or isinstance(each, np.ndarray)]
        assert not strangers, f"{func} of tensors on two devices"
        return super().__torch_function__(func, types, args, kwargs or {})


class StrictArrays(TorchArrays):
    """Whatever is not brought to the device is not there."""

    pixels_at_a_time = 5_000
    brought = 0

    def put(self, array: np.ndarray) -> torch.Tensor:
        StrictArrays.brought += array.nbytes if array.dtype == np.int16 else 0
        return super().put(array.copy()).as_subclass(There)

    def numbers(self, count: int) -> torch.Tensor:
        return super().numbers(count).as_subclass(There)

    def empty(self, shape: Any) -> torch.Tensor:
        return super().empty(shape).as_subclass(There)


def bold(pixels: np.ndarray) -> np.ndarray:
    """Levels that leave many cells."""
    return (pixels + np.random.default_rng(3).normal(0, 12, pixels.shape)).clip(0, 255).astype(np.float32)


def agree(ours: np.ndarray, host: np.ndarray) -> bool:
    """Nearly all values are equal, and none is off by more than a level."""
    off = np.abs(ours.astype(int) - host)
    return ours.dtype == np.uint8 and ours.shape == host.shape and off.max() <= 1 and (off > 0).mean() < 5e-4


@pytest.mark.slow
@pytest.mark.parametrize("size", [(61, 107), (5, 7)])
@pytest.mark.parametrize("kind", ["4:4:4", "4:2:2", "4:2:0", "4:1:1", "gray", "rgb"])
def test_the_projection_is_the_hosts(kind: str, size: tuple[int, int]) -> None:
    options = {"gray": {}, "rgb": {"keep_rgb": True}}.get(kind, {"subsampling": kind})
    for quality in (8, 40):
        photo = JpegPhoto.from_bytes(jpeg(picture(*size, gray=kind == "gray"), quality=quality, **options))
        levels = bold(photo.pixels())
        StrictArrays.brought = 0
        there = torch.from_numpy(levels.copy()).as_subclass(There)
        ours = project_to_cells(there, photo, photo.pixels(), StrictArrays(CPU))
        assert agree(ours.as_subclass(torch.Tensor).numpy(), project_to_cells(levels, photo))
        assert StrictArrays.brought == sum(plane.nbytes for plane in photo.coefficients())


def test_a_part_of_a_photo_is_projected_alike() -> None:
    photo = JpegPhoto.from_bytes(jpeg(picture(96, 128), quality=20))
    window = slice(32, 80), slice(48, 128)
    part = cut(photo, photo.coefficients(), window)
    levels = bold(photo.pixels()[window])
    ours = OnDevice(torch.from_numpy(levels.copy())).in_cells(part, photo.pixels()[window])
    assert agree(ours, project_to_cells(levels, part))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def photos() -> dict[str, JpegPhoto]:
    """One of each kind that a batch may meet."""
    neutral = np.repeat(picture(70, 90, gray=True)[..., None], 3, axis=2)
    return {
        "colour": JpegPhoto.from_bytes(jpeg(picture(70, 90), quality=20)),
        "gray": JpegPhoto.from_bytes(jpeg(picture(70, 90, gray=True), quality=20)),
        "neutral": JpegPhoto.from_bytes(jpeg(neutral, quality=20, subsampling=0)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["colour", "gray", "neutral"])
@pytest.mark.parametrize("constrain", [True, False])
def test_a_photo_is_settled_on_the_gpu_and_only_bytes_come_down(
    monkeypatch: pytest.MonkeyPatch, model: Path, kind: str, constrain: bool
) -> None:
    photo = photos()[kind]
    host = restore_photo(photo, Restorer.load(model, "cpu"), constrain=constrain)
    with FakeGPUs(monkeypatch) as gpus:
        ours = restore_photo(photo, Restorer.load(model, "cuda"), constrain=constrain)
        assert agree(np.asarray(ours), host)
        down = [(dtype, count) for dtype, count in gpus.fetched if count > 3]
        assert down == [(torch.uint8, host.size)]


@pytest.mark.slow
def test_levels_come_down_as_floats_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    pixels = picture(70, 90)
    host = Restorer.load(model, "cpu").restore_levels(pixels)
    with FakeGPUs(monkeypatch):
        ours = Restorer.load(model, "cuda").restore_levels(pixels)
    assert ours.dtype == np.float32 and np.allclose(ours, host, atol=0.01)
    assert (ours != ours.round()).any()


@pytest.mark.slow
def test_settling_does_not_wait_for_what_is_being_restored(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    photo = photos()["colour"]
    with FakeGPUs(monkeypatch) as gpus:
        restorer = Restorer.load(model, "cuda")
        seen = judged(Decoded.of(photo), restorer.embed(photo.pixels()), Settings(), None)
        levels = restorer.levels_of(seen.request(Settings()))
        gpus.stream(None).waiting.append(lambda: None)  # something long
        assert settled(seen, levels, Settings()).settled is Settled.CONSTRAINED
        assert gpus.stream(None).waiting, "the queue was not drained"


@pytest.mark.slow
@pytest.mark.parametrize("step", ["in_cells", "in_8_bits", "make_neutral"])
def test_a_gpu_without_memory_leaves_it_to_the_host(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    photo = photos()["colour"]
    levels = bold(photo.pixels())

    def made(kept: OnDevice) -> np.ndarray:
        result = getattr(kept, step)(*((photo, photo.pixels()) if step == "in_cells" else ()))
        return np.asarray(kept) if result is None else result

    expected = made(OnDevice(torch.from_numpy(levels.copy())))
    with FakeGPUs(monkeypatch) as gpus:
        kept = OnDevice(gpus.put(torch.from_numpy(levels), torch.device("cuda:0")))
        gpus.out_of_memory = True
        assert np.array_equal(made(kept), expected)


def test_coarse_products_that_a_host_program_allowed_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = photos()["colour"]
    levels = bold(photo.pixels())
    before = torch.backends.cuda.matmul.fp32_precision
    monkeypatch.setattr(TorchArrays, "product", lambda *_: pytest.fail("a product on the device"))
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        ours = OnDevice(torch.from_numpy(levels.copy())).in_cells(photo, photo.pixels())
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert np.array_equal(ours, project_to_cells(levels, photo))
