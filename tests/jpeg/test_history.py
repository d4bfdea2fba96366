"""Traces of a compression before the last one, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from codiff_batch.engine.crops import textured_crops
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.jpeg.history import History, look_back
from tests.jpeg.samples import jpeg


def scene(seed: int = 0, side: int = 384) -> np.ndarray:
    """Smooth ground of several scales with edges and fine texture, like a photo."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.normal(0, 1, (n, n)).astype(np.float32)).resize((side, side))) * 60 / k
        for k, n in ((1, 5), (1.5, 17), (3, 49), (6, 150))
    ]
    plane = 128 + sum(layers) + rng.normal(0, 1.5, (side, side))
    tint = rng.normal(0, 8, 3)
    return (plane[..., None] + tint).clip(0, 255).astype(np.uint8)


def history(data: bytes) -> History:
    photo = JpegPhoto.from_bytes(data)
    return look_back(textured_crops(photo.pixels()), photo.pixels(), photo.header.tables)


def decoded(data: bytes) -> np.ndarray:
    return JpegPhoto.from_bytes(data).pixels()


@pytest.mark.parametrize("quality", [75, 85, 95])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_picture_saved_once_has_no_earlier_compression(quality: int, seed: int) -> None:
    found = history(jpeg(scene(seed), quality=quality))
    assert found.earlier is None
    assert found.tells_enough


@pytest.mark.parametrize("first", [10, 20, 35, 50])
@pytest.mark.parametrize("second", [80, 95])
def test_the_first_of_two_compressions_is_found_on_the_same_grid(first: int, second: int) -> None:
    earlier = history(jpeg(decoded(jpeg(scene(), quality=first)), quality=second)).earlier
    assert earlier is not None and earlier.shift == (0, 0) and not earlier.was_resized
    assert earlier.qf is not None and abs(earlier.qf - first) <= 12


def test_a_gray_picture_tells_as_much() -> None:
    earlier = history(jpeg(decoded(jpeg(scene()[..., 1], quality=20)), quality=95)).earlier
    assert earlier is not None and earlier.qf is not None and abs(earlier.qf - 20) <= 12


@pytest.mark.parametrize("shift", [(3, 5), (0, 1), (7, 0)])
def test_a_shifted_grid_is_found_and_named(shift: tuple[int, int]) -> None:
    down, right = shift
    cropped = np.ascontiguousarray(decoded(jpeg(scene(), quality=30))[down:, right:])
    earlier = history(jpeg(cropped, quality=92)).earlier
    assert earlier is not None
    assert earlier.shift == (-down % 8, -right % 8)


@pytest.mark.parametrize("scale", [0.75, 0.6])
def test_a_picture_made_smaller_shows_another_period(scale: float) -> None:
    first = Image.fromarray(decoded(jpeg(scene(side=640), quality=20)))
    small = np.asarray(first.resize((round(640 * scale),) * 2, Image.Resampling.BICUBIC))
    earlier = history(jpeg(small, quality=95)).earlier
    assert earlier is not None and earlier.was_resized
    assert earlier.period == pytest.approx(8 * scale, abs=0.05)


@pytest.mark.parametrize("quality", [80, 98])
def test_a_dark_noisy_picture_has_no_comb_by_its_even_darkness(quality: int) -> None:
    noise = np.random.default_rng(1).normal(0, 3, (384, 384, 3))
    dark = (scene(2) * 0.06 + 11 + noise).clip(0, 255).astype(np.uint8)
    assert history(jpeg(dark, quality=quality, subsampling=0)).earlier is None


def test_flat_pictures_tell_nothing() -> None:
    for level in (0, 90, 255):
        assert not history(jpeg(np.full((300, 400, 3), level, np.uint8), quality=90)).tells_enough


def page(ink: int, paper: int) -> np.ndarray:
    image = Image.new("RGB", (480, 360), (paper,) * 3)
    for top in range(8, 350, 18):
        line = "a harbour in the morning, 06:45 of a paper summer"
        ImageDraw.Draw(image).text((8 + top % 5, top), line, fill=(ink,) * 3, font=ImageFont.load_default(14))
    return np.asarray(image)


@pytest.mark.parametrize(("ink", "paper"), [(10, 250), (220, 20)])
def test_a_page_of_text_is_known_and_only_a_real_compression_is_found_in_it(ink: int, paper: int) -> None:
    once = history(jpeg(page(ink, paper), quality=95))
    assert once.is_drawn and not once.tells_enough and once.earlier is None
    twice = history(jpeg(decoded(jpeg(page(ink, paper), quality=20)), quality=95)).earlier
    assert twice is not None and not twice.was_resized


def test_bars_that_repeat_are_no_comb() -> None:
    image = Image.new("RGB", (480, 360), "white")
    for number, left in enumerate(range(16, 460, 40)):
        ImageDraw.Draw(image).rectangle((left, 40 + 20 * (number % 5), left + 20, 350), fill=(20 * number, 90, 160))
    assert history(jpeg(np.asarray(image), quality=90)).earlier is None
