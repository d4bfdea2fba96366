"""The full model's way through the engine: the real chain of stock networks, tiny widths, random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codiff_batch.engine import Request, Restorer
from codiff_batch.engine.device import seconds_per_megapixel
from codiff_batch.engine.memory import fit_tiles
from codiff_batch.engine.precision import Precision, choose_precision
from codiff_batch.engine.tiling import Geometry
from codiff_batch.models.card import ModelCard
from codiff_batch.models.install import full_card, import_official
from codiff_batch.models.loading import load_networks
from codiff_batch.networks.one_step import TIMESTEP
from codiff_batch.networks.stable_diffusion import DenoisingUNet, fold_timestep
from tests.official import Official, fabricate

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("diffusers")]  # diffusers takes seconds to import
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Official:
    return fabricate(tmp_path_factory.mktemp("official"), small=True)


@pytest.fixture(scope="module")
def folder(official: Official, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    return import_official(official.codiff, official.cave, official.base, models_dir=models, precision=torch.float32)


def restorer(folder: Path, *, tile: int = 256, overlap: int = 128, one_size: bool = False, batch: int = 1) -> Restorer:
    """The model in 32-bit floats and without its colour fix, which looks at the whole photo."""
    card, networks = load_networks(folder)
    made = Restorer(replace(card, colour_fix="none", half_precision=False), networks, CPU, batch, tile)
    made._scheduler.geometry = Geometry(tile, overlap, card.multiple, one_size)
    return made


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def sky(side: int) -> np.ndarray:
    """A plain gradient."""
    down, across = np.mgrid[0:side, 0:side] / side
    return np.stack((110 + 60 * down + 8 * across, 150 + 50 * down, 200 + 40 * down), -1).round().astype(np.uint8)


def test_folding_the_timestep_changes_rounding_only(official: Official) -> None:
    unet = load_unfolded(official)
    latent, tokens = torch.randn(2, 4, 16, 24), torch.randn(2, 5, 12)
    with torch.no_grad():
        before = unet(latent, TIMESTEP, tokens).sample
        fold_timestep(unet)
        after = DenoisingUNet(unet)(latent, TIMESTEP, tokens)
    assert torch.allclose(before, after, atol=1e-5)
    with pytest.raises(ValueError, match="cannot be folded"):
        fold_timestep(unet)


def load_unfolded(official: Official):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(official.base / "unet").eval()


def test_each_tile_is_guided_by_its_own_embedding(folder: Path, official: Official) -> None:
    """A picture of one tile comes out as the plain pipeline has it, which embeds the whole picture."""
    pixels = picture(64, 128)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    expected = official.restore(image)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(restorer(folder).restore_levels(pixels) - expected.clip(0, 255)).max() < 0.05


@pytest.mark.slow
def test_no_seam_shows_in_a_plain_sky(tmp_path: Path) -> None:
    """Tiles elsewhere give nearly the same interior; the overlap that the model ships with is what does it."""
    deep = fabricate(tmp_path)
    folder = import_official(deep.codiff, deep.cave, deep.base, models_dir=tmp_path, precision=torch.float32)

    def disagreement(overlap: int) -> float:
        engine, shift, border = restorer(folder, overlap=overlap, one_size=True), 64, 64
        whole, shifted = engine.restore_levels(sky(448)), engine.restore_levels(sky(448)[shift:, shift:])
        difference = np.abs(whole[shift:, shift:] - shifted)[border:-border, border:-border]
        return float(difference.mean() / whole.std())

    assert disagreement(128) < 0.12
    assert disagreement(0) > 0.2


def test_tiles_of_photos_of_any_size_share_batches_of_one_shape(folder: Path) -> None:
    engine = restorer(folder, tile=128, overlap=64, one_size=True, batch=4)
    shapes: list[tuple[int, ...]] = []
    engine.networks.generator.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    sizes = [(40, 50), (200, 130), (128, 128), (64, 300)]
    results = {
        result.request.key: result
        for result in engine.stream(Request(picture(*size, seed), key=seed) for seed, size in enumerate(sizes))
    }
    # The second one's six tiles would fill two batches of four only by a third: it has batches of two.
    assert set(shapes) == {(1, 3, 128, 128), (2, 3, 128, 128), (4, 3, 128, 128)}
    for seed, size in enumerate(sizes):
        assert results[seed].levels.shape == (*size, 3)
        alone = engine.restore_levels(picture(*size, seed))
        assert np.array_equal(results[seed].levels, alone), "companions in a batch change nothing"


@pytest.mark.slow
def test_memory_depends_on_the_tile_and_not_on_the_photo(folder: Path) -> None:
    engine = restorer(folder, tile=128, overlap=64)
    largest = 0

    def watch(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal largest
        largest = max([largest, *(x.numel() for x in inputs)])

    for module in engine.networks.generator.modules():
        module.register_forward_pre_hook(lambda m, i: watch(m, tuple(x for x in i if isinstance(x, torch.Tensor))))
    engine.restore_levels(picture(128, 128))
    of_one_tile = largest
    engine.restore_levels(picture(260, 390))
    assert largest == of_one_tile


@pytest.mark.parametrize(
    ("free", "precision", "alone", "expected"),
    [
        (100e9, torch.float16, False, (1536, 12)),
        (12e9, torch.float16, False, (1024, 3)),
        (6e9, torch.float16, False, (768, 3)),
        (1.5e9, torch.float16, False, (384, 3)),
        (0.1e9, torch.float16, False, (192, 1)),
        (12e9, torch.float32, False, (768, 3)),
        (12e9, torch.bfloat16, True, (768, 1)),
    ],
)
def test_tiles_and_batches_fit_the_free_memory(
    free: float, precision: torch.dtype, alone: bool, expected: tuple[int, int]
) -> None:
    card = full_card("full", {}, {})
    fitted = fit_tiles(card, int(free), int(free), precision=precision, one_at_a_time=alone, one_size=False)
    assert fitted == expected


def test_half_precision_is_for_models_and_devices_that_have_it() -> None:
    full, cuda = full_card("full", {}, {}), torch.device("cuda")
    compact = replace(full, half_precision=False)
    assert choose_precision(full, cuda) == Precision(torch.float16)
    assert choose_precision(compact, cuda) == Precision(torch.float32)
    assert choose_precision(full, CPU).weights in (torch.bfloat16, torch.float32)


@pytest.mark.slow
def test_bfloat16_comes_near_to_32_bits(folder: Path) -> None:
    card, networks = load_networks(folder)
    pixels = picture(64, 64)
    exact = restorer(folder).restore_levels(pixels)
    half = Restorer(replace(card, colour_fix="none"), networks, CPU)
    half._backend.precision = torch.bfloat16
    networks.cave.to(torch.bfloat16)
    networks.generator.to(torch.bfloat16)
    assert np.abs(half.restore_levels(pixels) - exact).mean() < 0.05 * exact.std()


def test_a_cpu_is_told_what_to_expect() -> None:
    card: ModelCard = full_card("full", {}, {})
    assert 1 < seconds_per_megapixel(card, CPU, torch.float32) < 20_000
    assert seconds_per_megapixel(replace(card, macs_per_pixel=0), CPU, torch.float32) == 0
