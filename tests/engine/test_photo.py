"""One picture's way: how each picture ends, and why."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from codiff_batch.engine import Action, Restorer
from codiff_batch.engine.photo import Decoded, judged, judged_unseen, restore, restore_photo
from codiff_batch.engine.region import Region
from codiff_batch.engine.settling import Settled
from codiff_batch.engine.stream import Embedding
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.jpeg.pillow_pixels import STRIP
from codiff_batch.settings import Judging, Settings
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    return Restorer.load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny"), "cpu")


def jpeg(quality: int, height: int = 96, width: int = 112) -> JpegPhoto:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (height // 8, width // 8, 3)).astype(np.uint8))
    buffer = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return JpegPhoto.from_bytes(buffer.getvalue())


@pytest.fixture(scope="module")
def photo() -> JpegPhoto:
    return jpeg(20)


def sure(qf: float, restorer: Restorer, decoded: Decoded) -> Embedding:
    """What CaVE saw, with another estimate."""
    return Embedding(restorer.embed(decoded.pixels).tokens, qf)


@pytest.mark.parametrize(
    ("settings", "estimate", "ending"),
    [
        (Settings(), 20, Settled.CONSTRAINED),
        (Settings(strength=0.5), 20, Settled.CONSTRAINED),
        (Settings(strength=0), 20, Settled.UNCHANGED),
        (Settings(constrain=False), 20, Settled.NOT_ASKED),
        (Settings(), 5, Settled.CONSTRAINED),
        (Settings(qf=10), 20, Settled.BY_HAND),
    ],
)
def test_a_picture_ends_inside_its_cells_or_says_why_not(
    restorer: Restorer, photo: JpegPhoto, settings: Settings, estimate: float, ending: Settled
) -> None:
    decoded = Decoded.of(photo)
    restored = restore(decoded, restorer, settings, embedding=sure(estimate, restorer, decoded))
    assert restored.settled is ending
    assert restored.constrained == (ending is Settled.CONSTRAINED)
    assert restored.reason
    assert np.array_equal(restored.pixels, decoded.pixels) == (ending is Settled.UNCHANGED)
    assert restored.pixels.dtype == np.uint8


@pytest.mark.slow
def test_a_picture_saved_again_after_a_harder_compression_is_not_held_in_its_cells(restorer: Restorer) -> None:
    first = Image.fromarray(jpeg(10, 256, 256).pixels())
    buffer = io.BytesIO()
    first.save(buffer, "JPEG", quality=92)
    decoded = Decoded.of(JpegPhoto.from_bytes(buffer.getvalue()))
    assert restore(decoded, restorer, Settings()).settled is Settled.SAVED_AGAIN
    seen = judged(decoded, sure(90, restorer, decoded), Settings(), Judging(60))
    assert seen.verdict.action is Action.RESTORE and "saved again" in seen.verdict.reason
    assert seen.request(Settings()).tables is None, "networks rely on the tables that they are told"
    assert seen.request(Settings(qf=10)).tables is not None


def test_networks_are_told_the_tables_of_a_picture_saved_once(restorer: Restorer, photo: JpegPhoto) -> None:
    decoded = Decoded.of(photo)
    told = judged(decoded, sure(20, restorer, decoded), Settings(), Judging(60)).request(Settings()).tables
    assert told is not None and all(map(np.array_equal, told, photo.header.tables))


def test_a_photo_whose_decoder_sees_other_pixels_is_not_held_in_its_cells(restorer: Restorer, photo: JpegPhoto) -> None:
    tables = tuple(table * 2 for table in photo.header.tables)
    misread = replace(photo, header=replace(photo.header, tables=tables))
    restored = restore(Decoded.of(misread), restorer, Settings())
    assert restored.settled is Settled.NOT_MODELLED
    assert not np.array_equal(restored.pixels, photo.pixels())


@pytest.mark.parametrize("constrain", [True, False])
def test_black_and_white_in_three_channels_stays_neutral(restorer: Restorer, constrain: bool) -> None:
    gray = Image.fromarray(jpeg(95).pixels()).convert("L").convert("RGB")
    buffer = io.BytesIO()
    gray.save(buffer, "JPEG", quality=20)
    photo = JpegPhoto.from_bytes(buffer.getvalue())
    pixels = restore_photo(photo, restorer, constrain=constrain)
    assert not np.ptp(pixels, axis=2).any()
    assert not np.array_equal(pixels, photo.pixels())
    coloured = restore_photo(jpeg(20), restorer, constrain=constrain)
    assert np.ptp(coloured, axis=2).any()


@pytest.mark.parametrize("height", [1, STRIP, 2 * STRIP + 1])
def test_one_coloured_pixel_makes_a_picture_coloured(height: int) -> None:
    gray = np.full((height, 9, 3), 77, np.uint8)
    coloured = gray.copy()
    coloured[-1, -1, 2] += 1
    assert Decoded(gray).is_neutral
    assert not Decoded(coloured).is_neutral
    assert not Decoded(gray[..., 0]).is_neutral


def test_pixels_without_a_file_keep_what_is_finer_than_a_level(restorer: Restorer, photo: JpegPhoto) -> None:
    restored = restore(Decoded(photo.pixels()), restorer, Settings())
    assert restored.settled is Settled.NO_FILE
    assert restored.levels.dtype == np.float32
    assert np.array_equal(restored.pixels, np.rint(restored.levels))


@pytest.mark.parametrize("constrain", [True, False])
def test_a_region_is_a_part_of_the_whole(restorer: Restorer, photo: JpegPhoto, constrain: bool) -> None:
    decoded, settings = Decoded.of(photo), Settings(constrain=constrain)
    embedding = sure(20, restorer, decoded)
    place = (slice(33, 60), slice(21, 72))
    region = Region.of(place, decoded.pixels.shape[:2], restorer.card)
    whole = restore(decoded, restorer, settings, embedding=embedding)
    part = restore(decoded, restorer, settings, embedding=embedding, region=region)
    assert part.settled is whole.settled
    assert part.levels.shape == (27, 51, 3)
    difference = np.abs(part.pixels.astype(int) - whole.pixels[place])
    assert difference.mean() < 0.1 * np.abs(whole.pixels[place].astype(int) - decoded.pixels[place]).mean()


def test_restore_photo_takes_settings_whole_or_one_by_one(restorer: Restorer, photo: JpegPhoto) -> None:
    whole = restore_photo(photo, restorer, Settings(strength=0.5, constrain=False))
    assert np.array_equal(whole, restore_photo(photo, restorer, strength=0.5, constrain=False))
    with pytest.raises(ValueError, match="'strength' must be"):
        restore_photo(photo, restorer, strength=2)
    with pytest.raises(TypeError, match="strenth"):
        restore_photo(photo, restorer, strenth=1)


def test_a_quality_by_hand_reaches_the_network(restorer: Restorer, photo: JpegPhoto) -> None:
    """By tokens of that quality and tables of that quality, whatever the file says."""
    decoded = Decoded.of(photo)
    by_hand = {qf: Settings(qf=qf, constrain=False) for qf in (5, 60)}
    crops = {qf: decoded.crops(settings) for qf, settings in by_hand.items()}
    assert not np.array_equal(crops[5][0], crops[60][0])
    assert np.array_equal(decoded.crops(Settings())[0], decoded.pixels[:256, :256])
    seen = judged(decoded, restorer.embed_crops([crops[5]])[0], by_hand[5], None)
    assert seen.embedding.qf == 5
    tables = seen.request(by_hand[5]).tables
    assert tables is not None
    assert tables[0].max() == 255
    results = [restore_photo(photo, restorer, settings) for settings in by_hand.values()]
    assert not np.array_equal(*results)


@pytest.mark.parametrize(
    ("header_qf", "settings", "judging", "reason"),
    [
        (50, Settings(), Judging(60), "header says QF 50, below 60"),
        (95, Settings(), Judging(60), None),
        (None, Settings(), Judging(60), None),
        (95, Settings(qf=10), Judging(60), "quality 10 given by hand"),
        (95, Settings(), None, "asked for"),
    ],
)
def test_no_pixel_is_looked_at_where_none_need_be(
    header_qf: float | None, settings: Settings, judging: Judging | None, reason: str | None
) -> None:
    verdict = judged_unseen(header_qf, settings, judging)
    assert (verdict and verdict.reason) == reason
    assert verdict is None or verdict.action is Action.RESTORE


def test_what_looks_good_by_its_pixels_is_skipped(restorer: Restorer) -> None:
    decoded = Decoded.of(jpeg(95))
    skip = judged(decoded, sure(90, restorer, decoded), Settings(), Judging(60)).verdict
    bad = judged(decoded, sure(30, restorer, decoded), Settings(), Judging(60)).verdict
    assert (skip.action, bad.action) == (Action.SKIP, Action.RESTORE)
    without_file = judged(Decoded(decoded.pixels), sure(90, restorer, decoded), Settings(), Judging(60)).verdict
    assert without_file.action is Action.SKIP
