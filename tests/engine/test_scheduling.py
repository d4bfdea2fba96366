"""How tiles are cut and put together: little is computed for nothing, and a picture's bytes are its own affair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codiff_batch.engine import Request, Restorer
from codiff_batch.engine.memory import fit_tiles
from codiff_batch.engine.pool import LARGEST_FILL, bucket
from codiff_batch.engine.tiling import Geometry
from codiff_batch.errors import RestoreFailed
from codiff_batch.models.install import full_card
from tests.faults.engine import with_faults
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    return Restorer.load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", tile=64), "cpu")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def computed(height: int, width: int, memory: float, *, compiled: bool = False) -> float:
    """Pixels that the full model computes for each pixel of a picture, on a GPU of so much memory."""
    card = full_card("full", {}, {})
    side, most = fit_tiles(
        card, int(memory), int(memory), precision=torch.float16, one_at_a_time=False, one_size=compiled
    )
    geometry = Geometry(card.tile, card.overlap, card.multiple, compiled).of_side(side)
    tiles = geometry.tiles(height, width)
    size = bucket(len(tiles), most)
    padded = [np.prod(geometry.padded_tile(tile)) for tile in tiles]
    return float(np.mean(padded)) * -(-len(tiles) // size) * size / (height * width)


@pytest.mark.parametrize(
    ("size", "memory", "compiled", "budget"),
    [
        ((1024, 1024), 80e9, False, 1.0),
        ((1024, 1024), 80e9, True, 1.0),
        ((1024, 1024), 12e9, False, 1.0),
        ((1024, 1024), 6e9, False, 1.3),
        ((512, 768), 80e9, False, 1.0),
        ((3000, 4000), 80e9, False, 1.4),
        ((3000, 4000), 12e9, False, 1.5),
        ((3000, 4000), 6e9, False, 1.6),
        ((4000, 6000), 80e9, False, 1.4),
    ],
)
def test_the_full_model_computes_little_twice(
    size: tuple[int, int], memory: float, compiled: bool, budget: float
) -> None:
    assert computed(*size, memory, compiled=compiled) <= budget


@pytest.mark.parametrize("most", [1, 2, 4, 8, 12, 16])
def test_batches_are_powers_of_two_that_waste_little(most: int) -> None:
    for tiles in range(1, 200):
        size = bucket(tiles, most)
        assert size <= most
        assert size.bit_count() == 1
        assert -(-tiles // size) * size <= tiles * (1 + LARGEST_FILL)


@pytest.mark.parametrize("tiles", [16, 32, 48])
def test_full_batches_are_used_where_they_fit(tiles: int) -> None:
    assert bucket(tiles, 16) == 16


@pytest.mark.slow
def test_a_pictures_batches_do_not_depend_on_its_company(restorer: Restorer) -> None:
    """Batches of another size may be rounded otherwise on a GPU."""
    batched, faulty = with_faults(restorer, lambda call, images: False, batch=8)
    sizes = {0: (40, 50), 1: (100, 130), 2: (200, 200), 3: (64, 64), 4: (100, 130)}
    alone: dict[int, set[int]] = {}
    for seed, size in sizes.items():
        faulty.calls.clear()
        batched.restore(picture(*size, seed))
        alone[seed] = {shape[0] for shape in faulty.calls}
    assert all(len(batches) == 1 for batches in alone.values())
    faulty.calls.clear()
    results = list(batched.stream(Request(picture(*size, seed), key=seed) for seed, size in sizes.items()))
    assert len(results) == len(sizes)
    assert {shape[0] for shape in faulty.calls} == set.union(*alone.values())


@pytest.mark.slow
def test_tiles_that_fill_no_batch_of_their_own_share_one(restorer: Restorer) -> None:
    batched, faulty = with_faults(restorer, lambda call, images: False, batch=4)
    pixels = picture(100, 100)  # nine tiles: four batches of two and one half full
    batched.restore(pixels)
    assert [shape[0] for shape in faulty.calls] == [2] * 5
    faulty.calls.clear()
    list(batched.stream(Request(pixels, key=key) for key in range(2)))
    assert [shape[0] for shape in faulty.calls] == [2] * 9


def test_a_picture_may_be_given_up_between_two_batches(restorer: Restorer) -> None:
    pixels = picture(100, 100)

    def give_up(done: int, tiles: int) -> None:
        if done > 1:
            raise RestoreFailed("it takes too long")

    batched, faulty = with_faults(restorer, lambda call, images: False)
    requests = [Request(pixels, key="given up", progress=give_up), Request(pixels, key="whole")]
    results = {result.request.key: result for result in batched.stream(requests)}
    assert str(results["given up"].error) == "it takes too long"
    assert results["whole"].levels is not None
    assert len(faulty.calls) < 2 * 9


class Overflowing(torch.nn.Module):
    """The identity, by way of values that float16 cannot hold."""

    def __init__(self, largest: float) -> None:
        super().__init__()
        self.up, self.down = (torch.nn.Conv2d(3, 3, 1, bias=False) for _ in range(2))
        with torch.no_grad():
            for layer, factor in ((self.up, largest), (self.down, 1 / largest)):
                layer.weight.copy_(factor * torch.eye(3)[..., None, None])
        self.steps: list[torch.dtype] = []

    def forward(self, images: torch.Tensor, tokens: torch.Tensor, **condition: torch.Tensor) -> torch.Tensor:
        high = self.up(images)
        self.steps.append(high.dtype)
        return self.down(4 * high) / 4


def in_half_precision(restorer: Restorer, generator: torch.nn.Module) -> Restorer:
    made = Restorer(restorer.card, restorer.networks._replace(generator=generator), torch.device("cpu"))
    made._backend.precision = torch.float16
    generator.half()
    return made


@pytest.mark.parametrize(
    ("largest", "dtypes"), [(1000, [torch.float16]), (60_000, [torch.float16, torch.bfloat16])], ids=["fits", "not"]
)
def test_a_picture_that_overflows_is_restored_in_wider_floats(
    restorer: Restorer, largest: float, dtypes: list[torch.dtype]
) -> None:
    pixels, generator = picture(40, 50) // 2 + 128, Overflowing(largest)
    restored = in_half_precision(restorer, generator).restore_levels(pixels, embedding=restorer.embed(pixels))
    assert generator.steps == dtypes
    assert np.abs(restored - pixels).max() < 3


def test_what_overflows_even_so_is_no_picture(restorer: Restorer) -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor, tokens: torch.Tensor, **condition: torch.Tensor) -> torch.Tensor:
            return images / 0

    pixels = picture(40, 50)
    with pytest.raises(RestoreFailed, match="not finite"):
        in_half_precision(restorer, Broken()).restore_levels(pixels, embedding=restorer.embed(pixels))
