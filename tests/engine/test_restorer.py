"""The Restorer on real pictures with a tiny random model: geometry, blending, determinism, refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codiff_batch.engine import Request, Restorer
from codiff_batch.errors import DeviceUnavailable, RestoreFailed
from codiff_batch.models.loading import Networks
from codiff_batch.networks.one_step import OneStepGenerator
from codiff_batch.settings import Settings
from tests.tiny_model import SIZES, make_tiny_model


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    return Restorer.load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", tile=64), "cpu")


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(height * 10_000 + width)
    small = rng.integers(0, 255, (height // 8 + 2, width // 8 + 2, channels)).astype(np.uint8)
    whole = np.kron(small, np.ones((8, 8, 1))).astype(np.uint8)[:height, :width]
    return whole if channels == 3 else whole[..., 0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (3, 2), (17, 33), (64, 64), (65, 200), (130, 31)])
@pytest.mark.parametrize("channels", [3, 1], ids=["colour", "gray"])
def test_any_size_comes_back_in_its_own_shape(restorer: Restorer, shape: tuple[int, int], channels: int) -> None:
    pixels = picture(*shape, channels)
    restored = restorer.restore(pixels)
    assert restored.shape == pixels.shape
    assert restored.dtype == np.uint8


def test_a_pillow_image_and_its_pixels_give_the_same(restorer: Restorer) -> None:
    pixels = picture(50, 40)
    assert np.array_equal(restorer.restore(Image.fromarray(pixels)), restorer.restore(pixels))


@pytest.mark.slow
def test_same_input_gives_same_bytes(restorer: Restorer) -> None:
    pixels = picture(150, 170)
    assert restorer.restore(pixels).tobytes() == restorer.restore(pixels).tobytes()


def test_gray_stays_gray_and_equals_its_colour_copy(restorer: Restorer) -> None:
    gray = picture(40, 50, channels=1)
    colour = restorer.restore_levels(np.repeat(gray[..., None], 3, axis=2))
    inside = ((colour > 30) & (colour < 225)).all(axis=2)  # a channel that was clipped does not add up
    assert inside.mean() > 0.5
    assert np.allclose(restorer.restore_levels(gray)[inside], (colour @ [0.299, 0.587, 0.114])[inside], atol=0.01)


def test_strength_blends_with_the_source(restorer: Restorer) -> None:
    pixels = picture(40, 50)
    full, half = restorer.restore_levels(pixels), restorer.restore_levels(pixels, strength=0.5)
    inside = (full > 0) & (full < 255)  # the blend is taken before values are clipped
    assert np.allclose(half[inside], (full[inside] + pixels[inside]) / 2, atol=0.01)
    assert np.array_equal(restorer.restore(pixels, strength=0), pixels)
    with pytest.raises(ValueError, match="strength"):
        restorer.restore(pixels, strength=1.1)


@pytest.mark.slow
def test_texture_is_added_by_the_amount_asked_for(tmp_path: Path) -> None:
    textured = Restorer.load(make_tiny_model(tmp_path / "textured", sizes={**SIZES, "texture": True}), "cpu")
    pixels = picture(40, 50) // 2 + 64  # so that nothing is clipped
    faithful, half, full = (textured.restore_levels(pixels, texture=amount) for amount in (0, 0.5, 1))
    assert np.abs(full - faithful).max() > 1
    assert np.allclose(half, (faithful + full) / 2, atol=0.01)
    assert np.array_equal(full, textured.restore_levels(pixels))
    with pytest.raises(ValueError, match="texture"):
        textured.restore(pixels, texture=1.1)


@pytest.mark.slow
def test_without_texture_the_restoration_is_that_of_the_faithful_half(tmp_path: Path) -> None:
    model = Restorer.load(make_tiny_model(tmp_path / "textured", sizes={**SIZES, "texture": True}), "cpu")
    faithful = OneStepGenerator(*list(model.networks.generator.children())[:3])
    plain = Restorer(replace(model.card, sizes=SIZES), Networks(model.networks.cave, faithful), torch.device("cpu"))
    pixels = picture(40, 50)
    assert np.array_equal(model.restore_levels(pixels, texture=0), plain.restore_levels(pixels))
    # What a model without texture is asked for changes nothing.
    assert np.array_equal(plain.restore_levels(pixels, texture=0.5), plain.restore_levels(pixels))


@pytest.mark.slow
def test_pictures_in_one_batch_may_want_different_amounts(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "textured", sizes={**SIZES, "texture": True})
    together, alone = Restorer.load(folder, "cpu", batch=3), Restorer.load(folder, "cpu")
    pixels = picture(40, 50)
    amounts = (0.0, 0.4, 1.0)
    results = together.stream([Request(pixels, settings=Settings(texture=amount), key=amount) for amount in amounts])
    levels = {result.request.key: result.levels for result in results}
    for amount in amounts:
        assert np.allclose(levels[amount], alone.restore_levels(pixels, texture=amount), atol=0.01)


def test_the_files_tables_reach_the_network(restorer: Restorer) -> None:
    pixels = picture(40, 50)
    tables = [np.full((8, 8), 30, np.uint16)]
    assert not np.array_equal(restorer.restore_levels(pixels), restorer.restore_levels(pixels, tables=tables))


@pytest.mark.parametrize("channels", [3, 1], ids=["colour", "gray"])
def test_batches_of_tiles_give_what_single_tiles_give(restorer: Restorer, channels: int) -> None:
    pixels = picture(150, 135, channels)
    tables = [np.full((8, 8), 30, np.uint16)]
    batched = Restorer(restorer.card, restorer.networks, torch.device("cpu"), batch=4)
    single = restorer.restore_levels(pixels, tables=tables)
    assert np.allclose(batched.restore_levels(pixels, tables=tables), single, atol=0.01)


def test_progress_counts_tiles(restorer: Restorer) -> None:
    seen: list[tuple[int, int]] = []
    restorer.restore(picture(100, 100), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 9), (2, 9), (3, 9), (4, 9), (5, 9), (6, 9), (7, 9), (8, 9), (9, 9)]


def test_estimate_is_a_quality_factor(restorer: Restorer) -> None:
    assert 0 < restorer.estimate_qf(picture(300, 400)) < 100


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4)), np.zeros((0, 4), np.uint8)])
def test_what_is_not_an_8_bit_picture_is_refused(restorer: Restorer, pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        restorer.restore(pixels)


@pytest.mark.slow
def test_a_card_may_spare_pictures_that_look_good(tmp_path: Path, restorer: Restorer) -> None:
    pixels = picture(40, 50)
    qf = restorer.estimate_qf(pixels)
    spared, half = (
        Restorer.load(make_tiny_model(tmp_path / name, fade=fade), "cpu").restore_levels(pixels)
        for name, fade in (("spared", (qf - 20, qf - 10)), ("half", (qf - 10, qf + 10)))
    )
    assert np.array_equal(spared, pixels)
    assert np.allclose(half, restorer.restore_levels(pixels, strength=0.5), atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("fix", ["adain", "wavelet"])
def test_a_card_may_ask_for_the_sources_colours(tmp_path: Path, fix: str) -> None:
    pixels = picture(100, 120)
    drift, kept = (
        np.abs(
            Restorer.load(make_tiny_model(tmp_path / name, colour_fix=name), "cpu").restore_levels(pixels).mean((0, 1))
            - pixels.mean((0, 1))
        ).max()
        for name in ("none", fix)
    )
    assert kept < drift / 4


class Slanted(torch.nn.Module):
    """A generator that leans to the right and to the bottom."""

    def forward(self, image: torch.Tensor, tokens: torch.Tensor, **condition: torch.Tensor) -> torch.Tensor:
        across, down = (torch.linspace(0, 0.2, side) for side in (image.shape[3], image.shape[2]))
        return image + across + down[:, None]


@pytest.mark.parametrize("views", [2, 4])
def test_views_are_mirrored_so_that_a_lean_to_one_side_averages_out(
    tmp_path: Path, restorer: Restorer, views: int
) -> None:
    card, pixels = replace(restorer.card, views=views), np.full((48, 64, 3), 100, np.uint8)
    networks = restorer.networks._replace(generator=Slanted())
    assert np.ptp(Restorer(restorer.card, networks, torch.device("cpu")).restore_levels(pixels)) > 90
    levels = Restorer(card, networks, torch.device("cpu")).restore_levels(pixels)
    assert np.allclose(levels, 100 + 0.2 * 255, atol=0.1)


def test_values_that_are_not_finite_are_never_a_picture(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = torch.nn.Conv2d(8, 12, 3, padding=1)
    torch.nn.init.constant_(broken.bias, float("nan"))
    monkeypatch.setattr(restorer.networks.generator.unet, "head", broken)
    with pytest.raises(RestoreFailed, match="not finite"):
        restorer.restore(picture(20, 20))


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cpu:1"])
def test_a_device_that_is_not_there_is_named(tmp_path: Path, device: str) -> None:
    with pytest.raises(DeviceUnavailable, match=device):
        Restorer.load(make_tiny_model(tmp_path / "tiny"), device)
