"""Traces of a compression before the last one, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from codiff_batch.engine.crops import textured_crops
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.jpeg.history import Earlier, History, look_back
from codiff_batch.jpeg.quantization import ijg_table
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


def with_noise(pixels: np.ndarray, level: float, seed: int = 9) -> np.ndarray:
    """The same noise each time, but for how strong it is."""
    noise = np.random.default_rng(seed).normal(0, 1, pixels.shape[:2]) * level
    return (pixels + (noise if pixels.ndim == 2 else noise[..., None])).clip(0, 255).round().astype(np.uint8)


def luma_tables(quality: int) -> list[np.ndarray]:
    return [ijg_table(quality, chroma=False)]


def compressed(quality: int, height: int = 128, width: int = 128) -> np.ndarray:
    """A corner of a gray photo after one compression."""
    return decoded(jpeg(scene(0, 128)[..., 1], quality=quality))[:height, :width]


COMBS = {
    "QF 10": (compressed(10), None, 10, (0, 0), 16.79),
    "QF 20": (compressed(20), None, 20, (0, 0), 9.35),
    "QF 40": (compressed(40), None, 39, (0, 0), 4.95),
    "QF 60": (compressed(60), None, 60, (0, 0), 3.08),
    "on the grid of coarse tables": (compressed(20), luma_tables(87), 20, (0, 0), 7.81),
    "on the grid of tables that are just fine": (compressed(20), luma_tables(88), 20, (0, 0), 9.33),
    "cropped": (compressed(30)[3:, 5:], luma_tables(92), 30, (5, 3), 6.40),
    "cropped by columns": (compressed(30)[:, 1:], luma_tables(92), 30, (0, 7), 6.20),
    "cropped by rows": (compressed(30)[7:], luma_tables(92), 30, (1, 0), 6.43),
    "49 blocks": (compressed(30, 56, 56), None, 30, (0, 0), 4.64),
    "100 blocks": (compressed(30, 80, 80), None, 30, (0, 0), 5.49),
    "1600 blocks": (decoded(jpeg(scene(0, 320)[..., 1], quality=30)), None, 30, (0, 0), 6.924),
    "colour": (decoded(jpeg(scene(0, 128), quality=30)), None, 30, (0, 0), 6.31),
}
"""A picture, its tables, the compression before, the grid's shift, and the noise up to which the comb shows."""


@pytest.mark.parametrize("name", COMBS)
def test_noise_hides_a_comb_from_a_certain_strength_on(name: str) -> None:
    pixels, tables, qf, shift, strongest = COMBS[name]
    strip = pixels[:100]  # Too narrow to look for another period in.
    earlier = look_back([with_noise(pixels, 0.99 * strongest)], strip, tables).earlier
    assert earlier == Earlier(qf, shift)
    assert look_back([with_noise(pixels, 1.01 * strongest)], strip, tables).earlier is None


def test_forty_blocks_are_enough_for_a_clear_comb() -> None:
    for width, expected in ((64, Earlier(10)), (56, None)):
        pixels = compressed(10, 40, width)
        assert look_back([pixels], pixels, None) == History(40 * width // 64, is_drawn=False, earlier=expected)


@pytest.mark.parametrize(("quality", "qf"), [(9, 18), (10, 10), (60, 60), (61, 60), (64, None)])
def test_earlier_compressions_are_told_as_ten_to_sixty(quality: int, qf: int | None) -> None:
    """At QF 9 every second tooth is one of QF 18."""
    pixels = compressed(quality)
    assert look_back([pixels], pixels, None).earlier == (Earlier(qf) if qf else None)


@pytest.mark.parametrize("level", [16, 60, 96, 100])
def test_even_brightness_is_no_comb_wherever_it_lies(level: int) -> None:
    pixels = with_noise(np.full((128, 128), level, np.uint8), 3)
    assert look_back([pixels], pixels, None).earlier is None


def made_smaller(quality: int, scale: float, height: int, width: int) -> np.ndarray:
    """A gray photo compressed, then made smaller and cut."""
    side = round(480 * scale)
    image = Image.fromarray(decoded(jpeg(scene(0, 480)[..., 1], quality=quality)))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))[:height, :width]


def look_at_all(pixels: np.ndarray) -> History:
    """Two crops without noise, so that only the whole picture can tell of another grid."""
    crops = [made_smaller(20, 0.6, 64, 64), made_smaller(20, 0.6, 128, 128)[64:, 64:]]
    return look_back(crops, pixels, luma_tables(97))


@pytest.mark.parametrize(
    ("quality", "scale", "height", "width", "strongest"),
    [
        (20, 0.56, 230, 256, 3.625),
        (20, 0.6, 200, 288, 5.55),
        (20, 0.65, 290, 129, 4.625),
        (20, 0.7, 336, 200, 7.775),
        (15, 0.75, 129, 129, 6.825),
        (30, 0.75, 360, 330, 10.66),
        (20, 0.8, 300, 300, 7.165),
        (15, 0.9, 300, 430, 8.485),
    ],
)
def test_noise_hides_another_period_from_a_certain_strength_on(
    quality: int, scale: float, height: int, width: int, strongest: float
) -> None:
    pixels = made_smaller(quality, scale, height, width)
    earlier = look_at_all(with_noise(pixels, 0.985 * strongest)).earlier
    assert earlier is not None and earlier.qf is None and earlier.shift == (0, 0)
    assert earlier.period == pytest.approx(8 * scale, abs=0.05)
    assert look_at_all(with_noise(pixels, 1.015 * strongest)).earlier is None


@pytest.mark.parametrize(
    ("quality", "scale", "height", "width", "strongest"), [(30, 0.75, 360, 330, 8.435), (20, 0.8, 300, 300, 5.505)]
)
def test_lines_across_the_picture_hide_another_period_only_a_little(
    quality: int, scale: float, height: int, width: int, strongest: float
) -> None:
    pixels = made_smaller(quality, scale, height, width).copy()
    pixels[40:52], pixels[101:104], pixels[:, 70:77], pixels[:, 150] = 250, 5, 250, 0
    assert look_at_all(with_noise(pixels, 0.985 * strongest)).earlier is not None
    assert look_at_all(with_noise(pixels, 1.015 * strongest)).earlier is None


@pytest.mark.parametrize(
    ("scale", "period"),
    [(0.5, None), (0.54, None), (0.56, 4.52), (0.655, 5.24), (0.667, None), (0.675, 5.42), (0.96, 7.68), (0.98, None)],
)
def test_periods_that_the_files_own_grid_has_too_are_not_told(scale: float, period: float | None) -> None:
    earlier = look_at_all(made_smaller(15, scale, 400, 400)).earlier
    assert (earlier and earlier.period) == (pytest.approx(period, abs=0.05) if period else None)


@pytest.mark.slow
def test_another_period_is_looked_for_in_the_middle_of_large_pictures_that_are_no_strips() -> None:
    resized = made_smaller(20, 0.75, 360, 360)
    strip = made_smaller(15, 0.8, 128, 128)
    assert look_at_all(strip).earlier is not None
    assert look_at_all(strip[1:]).earlier is None and look_at_all(strip[:, 1:]).earlier is None
    large = np.full((1424, 1104), 90, np.uint8)
    large[:360, :360] = resized
    assert look_at_all(large).earlier is not None
    large = np.full((1800, 1800), 90, np.uint8)
    large[:360, :360] = resized
    assert look_at_all(large).earlier is None


def with_one_level(many: int, spread: int) -> np.ndarray:
    """A crop of random levels below ``spread``, with so many samples, of 4096, at level 100."""
    levels = np.random.default_rng(5).integers(0, spread, 4096).astype(np.uint8)
    levels[np.random.default_rng(6).permutation(4096)[:many]] = 100
    return levels.reshape(64, 64)


@pytest.mark.parametrize(("spread", "fewest"), [(256, 1484), (60, 1639)])
def test_a_crop_is_drawn_where_more_than_four_tenths_have_one_level(spread: int, fewest: int) -> None:
    for many, is_drawn in ((fewest - 1, False), (fewest, True)):
        crop = with_one_level(many, spread)
        assert look_back([crop], crop, None).is_drawn is is_drawn


def blocks_of_their_own(many: int, contrast: int = 40) -> np.ndarray:
    """Eight blocks in a row, the first ones with an edge at a place of their own in a corner, the others flat."""
    plane = np.full((64, 64), 100, np.uint8)
    for number in range(many):
        row, column = divmod(number, 8)
        block = plane[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        block[1 + row % 7 :, 1 + column % 7 :] += np.uint8(contrast + row + column)
    return plane


@pytest.mark.parametrize("many", [0, 1, 39, 40, 48])
def test_distinct_blocks_with_texture_are_the_evidence(many: int) -> None:
    crop = blocks_of_their_own(many)
    for crops in ([crop], [crop, crop], [crop, crop + np.uint8(30)], [np.pad(crop, ((0, 7), (0, 7)), mode="edge")]):
        found = look_back(crops, crop, None)
        assert found.blocks == many
        assert found.tells_enough is (many >= 40 and not found.is_drawn)


def test_a_block_has_texture_from_a_spread_of_two_levels_on() -> None:
    for step, blocks in ((4, 0), (5, 1)):
        crop = np.full((16, 16), 100, np.uint8)
        crop[:8, :4] += np.uint8(step)
        assert look_back([crop], crop, None).blocks == blocks


def test_crops_narrower_than_two_blocks_are_left_out() -> None:
    crop = blocks_of_their_own(64)
    assert look_back([crop[:16, :16]], crop, None).blocks == 4
    assert look_back([crop[:15], crop[:, :15]], crop, None).blocks == 0


@pytest.mark.parametrize("step", [28, 29, 30])
def test_only_steps_much_coarser_than_the_files_own_count(step: int) -> None:
    """At QF 20 the largest low steps are 40, which is 1.43 times 28 and 1.38 times 29; noise makes other fits worse."""
    pixels = compressed(20)[3:, 5:]
    earlier = look_back([pixels], pixels, [np.full((8, 8), step, np.uint16)]).earlier
    assert earlier == {28: Earlier(20, (5, 3)), 29: Earlier(19, (5, 3)), 30: None}[step]


def test_black_and_white_blocks_are_within_range() -> None:
    rows, columns = np.indices((96, 96)) // 8
    crop = np.where((rows * columns) % 3 > 0, 255, 0).astype(np.uint8)
    crop[:48] = with_noise(compressed(20), 2)[:48, :96]
    assert look_back([crop], crop, None).earlier is not None
