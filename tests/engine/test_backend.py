"""Another runtime than torch: a class with the protocol's methods restores through the same doors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from codiff_batch.engine import Embedding, Request, Restorer, restore_photo
from codiff_batch.engine.stream import Levels, Pixels
from codiff_batch.engine.tiling import Geometry, Tile
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.models.card import ModelCard, read_card
from tests.photos import jpeg, scene
from tests.tiny_model import make_tiny_model

DARKER = 20
"""Levels that this network takes from every pixel."""


@dataclasses.dataclass
class Canvas:
    """A picture while its tiles are darkened, and its way to the host."""

    source: Pixels
    blended: Levels
    kind: tuple[object, ...] = ()

    def levels(self) -> Levels:
        return self.blended


class Done:
    """Work that was done at once."""

    def wait(self) -> bool:
        return True


class NumpyBackend:
    """A network in numpy, which has memory for two tiles at a time."""

    name, floats, busy_seconds, ahead, room = "numpy", "float32", 0.0, 0, 0
    can_widen = can_glance = False

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, int]] = []

    def look(self, crops: Sequence[Pixels], *, glance: bool = False) -> list[tuple[None, float]]:
        return [(None, 10.0) for _ in crops]

    def open(self, request: Request, embedding: Embedding, size: tuple[int, int], *, wide: bool) -> Canvas:
        pixels = request.pixels
        return Canvas(pixels, np.zeros(pixels.shape, np.float32))

    def start(self, tiles: Sequence[tuple[Canvas, Tile]], shape: tuple[int, int, int], beside: int) -> Done | None:
        if len(tiles) > 2:
            return None
        self.steps.append(shape)
        for canvas, tile in tiles:
            weights = tile.weights if canvas.source.ndim == 3 else tile.weights[..., 0]
            canvas.blended[tile.place] += weights * (canvas.source[tile.place].astype(np.float32) - DARKER)
        return Done()

    def finish(self, picture: Canvas, strength: float) -> Canvas:
        levels = strength * picture.blended + (1 - strength) * picture.source
        return Canvas(picture.source, levels.clip(0, 255).astype(np.float32))


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    return read_card(make_tiny_model(tmp_path / "tiny"))


@pytest.fixture
def backend() -> NumpyBackend:
    return NumpyBackend()


@pytest.fixture
def restorer(card: ModelCard, backend: NumpyBackend) -> Restorer:
    return Restorer.on(backend, card, Geometry(card.tile, card.overlap, card.multiple), most=8)


def test_a_picture_is_cut_restored_and_blended_without_torch(restorer: Restorer, backend: NumpyBackend) -> None:
    pixels = np.random.default_rng(0).integers(40, 250, (300, 200, 3)).astype(np.uint8)
    assert restorer.device == "numpy"
    assert np.array_equal(restorer.restore(pixels), pixels - DARKER)
    assert np.array_equal(restorer.restore(pixels, strength=0.5), pixels - DARKER // 2)
    assert max(shape[0] for shape in backend.steps) == 2, "it was asked for less once its memory had run out"


def test_a_photo_goes_its_whole_way(restorer: Restorer) -> None:
    photo = JpegPhoto.from_bytes(jpeg(20, image=scene()))
    free, bound = (restore_photo(photo, restorer, constrain=constrain) for constrain in (False, True))
    assert photo.pixels().mean() - free.mean() == pytest.approx(DARKER, abs=2)
    assert free.mean() < bound.mean(), "the file's cells hold what the network must not take away"
