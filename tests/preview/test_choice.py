"""Settings to compare, photos that stand for others, and the cut of them that tells most."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Code, Kind, Outcome
from codiff_batch.engine import Restorer, restore_photo
from codiff_batch.engine.judge import Action, Ground
from codiff_batch.engine.photo import Decoded, judged, restore
from codiff_batch.engine.settling import Settled
from codiff_batch.errors import DamagedJpeg, SettingRefused
from codiff_batch.jpeg import JpegPhoto, blocks_of, cut, project_to_cells
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import BUNDLED, DEFAULT_MODEL
from codiff_batch.preview import work
from codiff_batch.preview.box import SURROUNDINGS, Box, telling_box
from codiff_batch.preview.choose import Chosen, Studied, candidates, choose
from codiff_batch.preview.judging import Photo, look_at
from codiff_batch.preview.settings import Setting, settings
from codiff_batch.preview.work import take_samples
from codiff_batch.settings import Judging, Settings
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model


def test_textures_are_for_the_models_that_add_some() -> None:
    assert settings(["fast", "compact"], [0, 1], [1.0], None) == [
        Setting("fast"),
        Setting("compact", 0),
        Setting("compact", 1),
    ]
    assert [s.words for s in settings(["compact"], [0.5], [1, 0.25], None)] == [
        "compact, texture 0.5",
        "compact, texture 0.5, strength 0.25",
    ]
    with pytest.raises(SettingRefused, match="fast adds none"):
        settings(["fast"], [0.5], [1.0], None)


def test_where_nothing_is_asked_for_the_default_is_compared_with_less_texture_and_with_more() -> None:
    usual = settings([], [], [1.0], None)
    assert {setting.model for setting in usual} == {DEFAULT_MODEL}
    assert [setting.texture for setting in usual] == [0, read_card(BUNDLED / DEFAULT_MODEL).texture, 1]


def test_a_model_by_path_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny_model(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    (setting,) = settings(["./tiny"], [], [1.0], None)
    assert setting.arguments == ("--model", str(tmp_path / "tiny"))


def photo(number: int, header: float, estimate: float | None, folder: str = "a", size: int = 640) -> Photo:
    source = Path(f"/{folder}/{number}.jpg")
    told = Outcome(source, None, Kind.WOULD_BE_RESTORED, "", Ground.HEADER, header, estimate, size, size)
    return Photo(told, min(header, 100 if estimate is None else estimate))


def studied(number: int, light: float = 0.5, origin: str = "x") -> Studied:
    return Studied(number, origin, np.full(6, light, np.float32))


def test_the_doubtful_and_the_saved_again_are_always_among_them() -> None:
    many = [photo(i, 20 + i % 5, None) for i in range(200)] + [photo(200 + i, 95, 94) for i in range(200)]
    many += [photo(400, 61, 60.5), photo(401, 59, None), photo(402, 95, 12), photo(403, 92, 20)]
    found = candidates(many, 60, 8)
    assert {400, 401, 402, 403} <= set(found)
    chosen = {one.number: one.why for one in choose([studied(n) for n in found], many, 60, 8)}
    assert len(chosen) == 8
    assert {chosen[400], chosen[401]} == {"near the line"}
    assert {chosen[402], chosen[403]} == {"saved again"}


def test_they_are_spread_over_quality_origin_and_content() -> None:
    many = [photo(i, 10 + i // 2, None) for i in range(100)]
    qualities = [many[c.number].quality or 0 for c in choose([studied(n) for n in range(100)], many, 60, 6)]
    assert qualities == sorted(qualities)
    assert qualities[0] < 25
    assert qualities[-1] > 50
    same = [photo(i, 30, None) for i in range(20)]
    odd = [studied(i, origin="odd" if i == 7 else "x", light=1.0 if i == 11 else 0.5) for i in range(20)]
    assert {7, 11} <= {one.number for one in choose(odd, same, 60, 6)}


def test_small_kinds_of_a_collection_are_candidates_and_what_was_not_judged_is_none() -> None:
    many = [photo(i, 30, None) for i in range(500)]
    many += [photo(500, 30, None, folder="b"), photo(501, 30, None, size=4000)]
    many += [
        Photo(Outcome(Path("/c"), None, Kind.FAILED, "damaged"), None),
        Photo(Outcome(Path("/d"), None, Kind.SKIPPED, "signed", Code.SIGNED, 30), None),
    ]
    found = candidates(many, 60, 4)
    assert {500, 501} <= set(found)
    assert not {502, 503} & set(found)
    assert not many[502].was_saved_again


def test_the_same_photos_are_chosen_every_time() -> None:
    many = [photo(i, i % 90 + 5, None) for i in range(300)]
    assert candidates(many, 60, 5) == candidates(many, 60, 5)


def test_the_cut_is_where_the_detail_is() -> None:
    pixels = np.full((900, 1200, 3), 128, np.uint8)
    pixels[500:760, 700:1000] = np.random.default_rng(0).integers(60, 200, (260, 300, 3))
    box = telling_box(pixels)
    assert pixels[box.place].std(axis=2).astype(bool).sum() > 0.75 * 260 * 300
    assert telling_box(pixels[:50, :70]) == Box(0, 0, 50, 70)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    return Restorer.load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny"), "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("box", [Box(64, 96, 96, 128), Box(160, 224, 81, 75), Box(0, 0, 241, 299)])
def test_a_cut_is_restored_as_it_would_be_within_the_whole(tiny: Restorer, sampling: str, box: Box) -> None:
    photo = JpegPhoto.from_bytes(jpeg(20, image=scene(299, 241), subsampling=sampling))
    pixels = photo.pixels()
    embedding = tiny.embed(pixels)
    whole = restore_photo(photo, tiny, embedding=embedding)[box.place].astype(int)
    around = box.grown(SURROUNDINGS, *pixels.shape[:2])
    part = Decoded.of(photo, pixels).part(around.place, blocks_of(photo, pixels))
    restored = restore(part, tiny, Settings(), embedding=embedding)
    shown = restored.pixels[box.within(around).place].astype(int)
    assert restored.constrained
    assert np.abs(shown - whole).mean() < 0.5
    assert np.abs(whole - pixels[box.place]).mean() > 0.5


@pytest.mark.slow
def test_what_is_shown_of_a_photo_has_the_whole_photos_history(tmp_path: Path) -> None:
    """A part may tell too little of an earlier compression, or less of it, than the photo does."""
    crushed = JpegPhoto.from_bytes(jpeg(12, image=scene(1600, 1200)))
    path = write(tmp_path / "again.jpg", jpeg(95, image=Image.fromarray(crushed.pixels())))
    taken = Photo(Outcome(path, None, Kind.WOULD_BE_RESTORED, "", Ground.HEADER, 95, 12, 1600, 1200), 12)
    (sample,) = take_samples([Chosen(0, "")], [taken], BatchOptions())
    whole = Decoded.of(JpegPhoto.open(path)).history
    assert whole.earlier is not None
    assert sample.part.history == whole
    assert sample.part.history != replace(sample.part, whole=None).history


@pytest.mark.slow
def test_a_gray_part_of_a_photo_in_colour_is_restored_as_within_the_whole(tiny: Restorer) -> None:
    pixels = np.asarray(scene(900, 640)).copy()
    pixels[:, 400:] = pixels[:, 400:, 1:2]
    photo = JpegPhoto.from_bytes(jpeg(90, image=Image.fromarray(pixels), subsampling="4:4:4"))
    pixels = photo.pixels()
    whole, window = Decoded.of(photo, pixels), (slice(0, 320), slice(480, 800))
    assert np.array_equal(pixels[window][..., :1].repeat(3, 2), pixels[window])
    part = whole.part(window, blocks_of(photo, pixels))
    assert not part.is_neutral
    assert replace(part, whole=None).is_neutral
    settings = Settings(constrain=False)
    levels = restore(part, tiny, settings, embedding=tiny.embed(pixels)).levels
    assert np.ptp(levels, axis=2).any()  # or the case would show nothing


class Unreadable(JpegPhoto):
    """A photo whose coefficients the library cannot read, though the decoder can."""

    def coefficients(self) -> NoReturn:
        raise DamagedJpeg("cannot be read")


def read_otherwise(photo: JpegPhoto) -> JpegPhoto:
    """A photo whose decoder takes its tables from elsewhere than we do."""
    return replace(photo, header=replace(photo.header, tables=tuple(table * 2 for table in photo.header.tables)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unreadable", "read otherwise"])
def test_a_photo_whose_cells_cannot_be_known_is_shown_as_a_batch_restores_it(
    kind: str, tiny: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = JpegPhoto.from_bytes(jpeg(20, image=scene(640, 480)))
    if kind == "unreadable":
        misread: JpegPhoto = Unreadable(photo.path, photo.data, photo.structure, photo.header)
    else:
        misread = read_otherwise(photo)
    assert restore(Decoded.of(misread), tiny, Settings()).settled is Settled.NOT_MODELLED
    monkeypatch.setattr(work, "open_again", lambda source, options: misread)
    taken = Photo(Outcome(Path("misread.jpg"), None, Kind.WOULD_BE_RESTORED, "", Ground.HEADER, 20, 20, 640, 480), 20)
    (sample,) = take_samples([Chosen(0, "")], [taken], BatchOptions())
    assert restore(sample.part, tiny, Settings()).settled is Settled.NOT_MODELLED


def test_a_cut_is_held_to_its_own_cells(tiny: Restorer) -> None:
    """The cut's pixels, coded as the source was, give the source's coefficients back."""
    photo = JpegPhoto.from_bytes(jpeg(20, image=scene(256, 192), subsampling="4:4:4"))
    window = Box(64, 96, 64, 96).place
    part, pixels = cut(photo, photo.coefficients(), window), photo.pixels()[window]
    noisy = pixels + np.random.default_rng(0).normal(0, 12, pixels.shape)
    settled = project_to_cells(noisy.astype(np.float32), part)
    buffer = io.BytesIO()
    Image.fromarray(settled).save(buffer, "JPEG", quality=20, subsampling="4:4:4")
    again = JpegPhoto.from_bytes(buffer.getvalue()).coefficients()
    for one, other in zip(again, part.coefficients(), strict=True):
        assert (one == other).mean() > 0.995


def test_the_line_at_which_a_photo_turns_is_the_judges_own(tiny: Restorer, tmp_path: Path) -> None:
    """Below it no run would restore the photo, above it every run would."""
    outcomes = []
    for quality in (15, 60, 95):
        source = tmp_path / f"{quality}.jpg"
        source.write_bytes(jpeg(quality, image=scene(96, 96, seed=quality)))
        outcomes.append(Outcome(source, None, Kind.WOULD_BE_RESTORED, "", header_qf=quality, width=96, height=96))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    outcomes.append(Outcome(broken, None, Kind.WOULD_BE_RESTORED, "", header_qf=50, width=9, height=9))
    *photos, failed = look_at(outcomes, BatchOptions(), lambda: tiny)
    assert (failed.outcome.outcome, failed.quality) == (Kind.FAILED, None)
    for one in photos:
        assert one.is_certain
        decoded = Decoded.of(JpegPhoto.open(one.outcome.source))
        embedding = tiny.embed_crops([decoded.crops(Settings())])[0]
        for line in range(0, 101, 5):
            verdict = judged(decoded, embedding, Settings(), Judging(min_qf=line)).verdict
            assert one.is_below(line) == (verdict.action is Action.RESTORE), line
