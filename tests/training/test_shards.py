"""Photo sets larger than memory: every photo has its turn, and only two shards are decoded at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training import fit
from training.batches import batches, held_out_batches
from training.device_degradation import DeviceDegrader
from training.photos import Pixels, is_held_out, load_photos
from training.recipe import Recipe
from training.shards import CROPS, Shards

SIDE = 160
PHOTO = 3 * SIDE * SIDE
"""Bytes of a decoded photo."""


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Ten photos, each of one colour of its own."""
    made = [tmp_path / f"{number}.png" for number in range(10)]
    for number, path in enumerate(made):
        Image.new("RGB", (SIDE, SIDE), (20 * number, 0, 0)).save(path)
    return made


def numbers(photos: list[Pixels]) -> list[int]:
    return [int(photo[0, 0, 0]) // 20 for photo in photos]


def test_a_set_within_the_limit_stays_whole_and_in_order(paths: list[Path]) -> None:
    shards = Shards(paths, 10 * PHOTO)
    assert numbers(shards.at(0)) == list(range(10))
    assert shards.at(10**9) is shards.at(0)


def test_in_an_epoch_every_photo_has_its_turn_and_in_the_next_another_order(paths: list[Path]) -> None:
    shards = Shards(paths, 6 * PHOTO)
    orders = []
    for epoch in range(2):
        turns = [numbers(shards.at((10 * epoch + place) * CROPS)) for place in range(10)]
        assert all(len(shard) <= 3 for shard in turns)
        order = [number for n, shard in enumerate(turns) if n == 0 or shard != turns[n - 1] for number in shard]
        assert sorted(order) == list(range(10))
        orders.append(order)
    assert orders[0] != orders[1]


def test_a_resumed_run_draws_what_it_would_have_drawn(paths: list[Path]) -> None:
    through, resumed = (Shards(paths, 6 * PHOTO, (7, 1)) for _ in range(2))
    crops = range(0, 12 * CROPS, CROPS // 2)
    expected = [numbers(through.at(crop)) for crop in crops]
    assert [numbers(resumed.at(crop)) for crop in crops[17:]] == expected[17:]
    assert numbers(Shards(paths, 6 * PHOTO, (7, 2)).at(0)) != expected[0]


def test_no_more_than_the_limit_is_decoded_at_a_time(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def load(some: list[Path]) -> list[Pixels]:
        decoded.append(len(some))
        return load_photos(some)

    monkeypatch.setattr("training.shards.load_photos", load)
    shards = Shards(paths, 6 * PHOTO)
    for crop in range(3 * CROPS):
        shards.at(crop)
    shards.at(3 * CROPS)
    assert decoded[:2] == [3, 3]
    assert len(decoded) <= 3  # the one in use, the one before it, and the next


def test_pictures_that_are_drawn_belong_to_every_shard(paths: list[Path]) -> None:
    drawn = np.full((SIDE, SIDE, 3), 255, np.uint8)
    shards = Shards(paths, 6 * PHOTO, always=[drawn])
    assert all(shards.at(place * CROPS)[-1] is drawn for place in range(10))


def test_a_photo_that_no_shard_has_room_for_is_named(paths: list[Path]) -> None:
    with pytest.raises(ValueError, match="png alone takes more memory"):
        Shards(paths, PHOTO)


def test_of_many_held_out_photos_evenly_spaced_ones_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = [name for n in range(1000, 2000) if is_held_out(Path(name := f"{n}_0.png"))][:8]
    for number, name in enumerate(held_out):
        Image.new("RGB", (SIDE, SIDE), (20 * number, 0, 0)).save(tmp_path / name)
    assert numbers(fit._held_out(tmp_path)) == list(range(8))
    monkeypatch.setattr(fit, "HELD_OUT", 3)
    assert numbers(fit._held_out(tmp_path)) == [0, 3, 6]


def colours_of(images: torch.Tensor) -> set[int]:
    return {round(float(image[0].median()) * 255) // 20 for image in images}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["host", "device"])
def test_batches_come_from_the_shard_whose_turn_it_is(paths: list[Path], where: str) -> None:
    shards, recipe, size = Shards(paths, 6 * PHOTO), Recipe(gray=0), 16
    if where == "host":
        data = batches(shards, 64, size, recipe, seed=(0,))
    else:
        data = DeviceDegrader(shards, 64, recipe, torch.device("cpu")).batches(size, (0,))
    seen = [colours_of(next(data).clean) for _ in range(5 * CROPS // size)]
    data.close()
    turns = Shards(paths, 6 * PHOTO)
    first, second = (set(numbers(turns.at(crop))) for crop in (0, 3 * CROPS))
    there = 3 * CROPS // size
    assert set().union(*seen[:there]) == first
    assert set().union(*seen[there:]) == second


def test_validations_look_at_as_many_patches_as_they_are_told_to_and_at_the_same_each_time() -> None:
    photos = [np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)]
    first, again = (list(held_out_batches(photos, 32, 4, Recipe(), 9, torch.device("cpu"))) for _ in range(2))
    assert [len(batch.qf) for batch in first] == [4, 4, 4]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.compressed, other.compressed)
