"""Training pairs are what they say they are."""

import numpy as np
from PIL import Image

from training.degradation import Degrader, compress
from training.recipe import Encoding, Recipe, camera_encodings, mozjpeg_encodings


def photos() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (40, 60, 3)).astype(np.uint8))
    return [np.asarray(small.resize((300, 200), Image.Resampling.BICUBIC)), np.asarray(small)]


def draw(count: int, **shares: float) -> list:
    degrader = Degrader(photos(), 64, Recipe(**shares), seed=1)
    return [degrader.draw() for _ in range(count)]


def test_the_same_seed_draws_the_same_pairs() -> None:
    for one, other in zip(draw(20), draw(20), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_every_pair_has_the_patchs_size_even_from_a_photo_that_is_smaller() -> None:
    for pair in draw(50):
        assert pair.clean.shape == pair.compressed.shape == (64, 64, 3)


def test_untouched_pairs_are_equal_and_say_100() -> None:
    for pair in draw(10, untouched=1):
        assert np.array_equal(pair.clean, pair.compressed)
        assert pair.qf == 100
        assert not pair.tables.any()


def test_gray_pairs_stay_gray() -> None:
    for pair in draw(10, gray=1):
        assert (np.ptp(pair.clean, axis=2) == 0).all()
        assert (np.ptp(pair.compressed, axis=2) == 0).all()


def test_a_single_compression_is_reproduced_by_its_quality_and_lies_on_the_grid() -> None:
    for pair in draw(20, untouched=0, gray=0, double=0, chroma_420=1, tables_hidden=0):
        again, tables = compress(pair.clean, Encoding(round(pair.qf), 2))
        assert np.array_equal(pair.compressed, again)
        assert np.array_equal(pair.tables, tables)


def test_a_double_compression_is_labelled_by_its_lower_quality() -> None:
    pairs = draw(100, untouched=0, double=1, fine=0)
    assert all(5 <= pair.qf <= 95 for pair in pairs)
    assert np.mean([pair.qf for pair in pairs]) < 45


def test_hidden_tables_are_zero() -> None:
    assert not any(pair.tables.any() for pair in draw(10, tables_hidden=1))


def test_tables_are_told_only_where_no_harder_compression_came_before() -> None:
    pairs = draw(60, untouched=0, double=1, resaved_fine=0, tables_hidden=0)
    told = [pair for pair in pairs if pair.tables.any()]
    assert 5 < len(told) < 55
    for pair in told:
        assert np.array_equal(pair.tables, Encoding(round(pair.qf), 2).steps)


def test_camera_tables_are_the_files_own_and_labelled_by_the_nearest_quality() -> None:
    for pair in draw(20, untouched=0, double=0, camera_tables=1, tables_hidden=0, gray=0):
        assert any(
            round(pair.qf) == known.qf and np.array_equal(pair.tables.reshape(2, 64), known.tables)
            for known in camera_encodings()
        )


def test_pictures_made_smaller_in_between_still_match_their_clean_patch() -> None:
    degrader = Degrader(photos()[:1], 64, Recipe(untouched=0, double=1, resized=1, qf_low=60), seed=1)
    for pair in (degrader.draw() for _ in range(20)):
        assert pair.clean.shape == pair.compressed.shape == (64, 64, 3)
        assert np.abs(pair.clean.astype(int) - pair.compressed).mean() < 25


def test_mozjpegs_table_is_labelled_by_the_nearest_quality() -> None:
    for pair in draw(10, untouched=0, double=0, mozjpeg=1, tables_hidden=0, gray=0):
        assert any(
            round(pair.qf) == known.qf and np.array_equal(pair.tables.reshape(2, 64), known.tables)
            for known in mozjpeg_encodings()
        )


def test_pictures_made_smaller_after_their_compression_have_no_tables() -> None:
    degrader = Degrader(photos()[:1], 64, Recipe(untouched=0, double=0, resized_after=1, qf_low=60), seed=1)
    for pair in (degrader.draw() for _ in range(20)):
        assert pair.clean.shape == pair.compressed.shape == (64, 64, 3)
        assert not pair.tables.any()
        assert 0 < np.abs(pair.clean.astype(int) - pair.compressed).mean() < 25


def test_noise_and_blur_are_in_the_clean_patch() -> None:
    plain, noisy, blurred = (
        np.mean([np.abs(np.diff(pair.clean.astype(int), axis=0)).mean() for pair in draw(20, untouched=1, **share)])
        for share in ({}, {"noisy": 1}, {"blurred": 1})
    )
    assert blurred < plain < noisy


def test_the_authors_mix_has_their_favourites() -> None:
    qfs = [pair.qf for pair in draw(200, untouched=0, double=0, qf_mix="authors")]
    favourites = np.isin(qfs, (10, 20, 30, 40, 50, 60)).mean()
    assert 0.65 < favourites < 0.9
    assert all(8 <= qf <= 95 for qf in qfs)
