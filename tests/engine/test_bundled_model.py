"""The model that everybody's first photo goes through."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.pipeline import run_pipeline
from codiff_batch.batch.plan import plan
from codiff_batch.engine import Restorer, restore_photo
from codiff_batch.engine.crops import textured_crops
from codiff_batch.engine.judge import Ground
from codiff_batch.engine.photo import GLANCE_ERROR, Decoded, judged, look_closely_enough
from codiff_batch.engine.restorer import Pixels
from codiff_batch.engine.stream import Embedding
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.models.catalogue import BUNDLED
from codiff_batch.settings import Judging, Settings
from tests import warm
from tests.tiny_model import make_tiny_model
from training.evaluate import Contestants, held_out_patterns, lossless_photos, measure, psnr
from training.scorecard import by_qf

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "photos"
LIVE1 = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "LIVE1_color"

needs_live1 = pytest.mark.skipif(not LIVE1.is_dir(), reason="the LIVE1 photos are not beside the repository")


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.load(device="cpu")


@pytest.fixture(scope="module")
def fine() -> Pixels:
    """A photo without compression, 304x304: the good example at half its size, in four mirrored views."""
    small = np.asarray(Image.open(EXAMPLES / "strudel-fine-q95.jpg").reduce(2))[:152, :152]
    return np.block([[[small], [small[:, ::-1]]], [[small[::-1]], [small[::-1, ::-1]]]])


def crush(pixels: Pixels, quality: int, **options: object) -> JpegPhoto:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, **options)
    return JpegPhoto.from_bytes(buffer.getvalue())


def test_it_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) < 40e6


@pytest.mark.slow
def test_its_card_says_how_it_was_made(restorer: Restorer) -> None:
    training, scores = restorer.card.training, restorer.card.scores
    assert {"data", "credits", "steps", "minutes", "seed"} <= set(training)
    assert "LIVE1" in scores


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [5, 10, 20, 40])
def test_it_brings_a_photo_nearer_to_the_truth(restorer: Restorer, fine: Pixels, quality: int, sampling: int) -> None:
    fine = fine[:152, :152]
    photo = crush(fine, quality, subsampling=sampling)
    assert psnr(restore_photo(photo, restorer), fine) > psnr(photo.pixels(), fine) + 0.5


@pytest.mark.slow
@pytest.mark.parametrize("quality", [90, 95, 98, 100])
def test_a_fine_photo_is_hardly_changed_and_not_harmed(restorer: Restorer, fine: Pixels, quality: int) -> None:
    photo = crush(fine, quality, subsampling=0)
    restored, source = restore_photo(photo, restorer), photo.pixels()
    assert np.abs(restored.astype(int) - source).mean() < 1.5
    assert np.abs(restored.mean(axis=(0, 1)) - source.mean(axis=(0, 1))).max() < 1, "its mean colour is kept"
    assert psnr(restored, fine) > psnr(source, fine) - 0.2


@pytest.mark.slow
def test_gray_photos_stay_gray_and_gain(restorer: Restorer, fine: Pixels) -> None:
    gray = np.asarray(Image.fromarray(fine).convert("L"))
    photo = crush(gray, 15)
    restored = restore_photo(photo, restorer)
    assert restored.shape == gray.shape
    assert psnr(restored, gray) > psnr(photo.pixels(), gray) + 0.5


@pytest.mark.slow
def test_a_photo_that_was_saved_again_is_not_bound_by_the_cells_of_the_last_save(
    restorer: Restorer, fine: Pixels
) -> None:
    again = crush(crush(fine, 10).pixels(), 95, subsampling=0)
    assert psnr(restore_photo(again, restorer), fine) > psnr(again.pixels(), fine) + 0.5


@pytest.mark.slow
def test_tiles_leave_no_seam(restorer: Restorer, fine: Pixels) -> None:
    """A photo restored in tiles is the photo restored whole, to within what 8 bits can show."""
    from dataclasses import replace

    pixels = crush(np.tile(fine, (2, 2, 1))[:448, :448], 10).pixels()
    whole = Restorer(replace(restorer.card, tile=1024), restorer.networks, torch.device("cpu"))
    tiled = Restorer(replace(restorer.card, tile=256), restorer.networks, torch.device("cpu"))
    difference = np.abs(whole.restore_levels(pixels) - tiled.restore_levels(pixels))
    assert difference.mean() < 0.1
    assert difference.max() < 4
    # The seams themselves are no worse than the rest.
    assert difference[:, 192:256].mean() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("quality", [10, 20, 40, 60, 80, 95])
def test_quality_is_read_from_the_pixels_alone(restorer: Restorer, fine: Pixels, quality: int) -> None:
    assert restorer.estimate_qf(crush(fine, quality).pixels()) == pytest.approx(quality, abs=12)


def test_a_crushed_photo_saved_again_does_not_pass_for_a_good_one(restorer: Restorer) -> None:
    photo = JpegPhoto.open(EXAMPLES / "ravioli-q10-resaved-q95.jpg")
    assert photo.header.qf == 95
    assert restorer.estimate_qf(photo.pixels()) < 45


@pytest.mark.slow
def test_regular_patterns_do_not_pass_for_compression(restorer: Restorer) -> None:
    """Facades, bricks, meshes, text and screens that are good already are judged good and not harmed."""
    for pattern in held_out_patterns(1):
        plain, ours = measure(pattern, 90, "4:2:0", Contestants((restorer,)), constrain=True)
        assert ours.psnr > plain.psnr, pattern.name
        assert ours.estimated_qf > 60, pattern.name


def test_its_card_promises_a_gain_at_every_quality(restorer: Restorer) -> None:
    """As measured on all of LIVE1: ``python -m training.evaluate --photos LIVE1 --texture 0 --record LIVE1``."""
    measured = restorer.card.scores["LIVE1, texture 0"]["by_qf"]
    for qf, least in (("5", 1.55), ("10", 1.5), ("20", 1.4), ("40", 1.35)):
        assert measured[qf]["gain"] >= least
        assert measured[qf]["worst_gain"] > 0
    assert np.mean([row["qf_error"] for row in measured.values()]) < 3


@pytest.mark.slow
@needs_live1
@pytest.mark.parametrize("name", ["compact", "fast"])
def test_a_card_is_that_of_these_weights(name: str) -> None:
    """A few crops of LIVE1 score what the card says of them: measured again with ``--every 6 --crop 128``."""
    restorer = Restorer.load(name, "cpu")
    told = restorer.card.scores["LIVE1 crops"]["by_qf"]
    contestants, photos = Contestants((restorer,)), list(lossless_photos(LIVE1, every=6, crop=128))
    scores = [
        score
        for qf in map(int, told)
        for photo in photos
        for score in measure(photo, qf, "4:2:0", contestants, constrain=True)
    ]
    for qf, row in by_qf(scores, name).items():
        assert row == pytest.approx({what: told[qf][what] for what in row}, abs=0.021), qf


@pytest.mark.slow(seconds=25)
def test_24_megapixels_stay_under_two_and_a_half_gigabytes(tmp_path: Path) -> None:
    """The networks see a tile at a time whatever the photo, so the rest can be told from a smaller network's growth."""
    tiny = str(make_tiny_model(tmp_path / "tiny", tile=768, overlap=64))
    one_tile = peak_bytes(tmp_path, "compact", (768, 768), cold=True)
    growth = (peak_bytes(tmp_path, tiny, (2000, 1500)) - peak_bytes(tmp_path, tiny, (1250, 800))) / 2
    assert 0 < growth < 60e6
    assert one_tile + 24 * growth < 2.5e9


def peak_bytes(folder: Path, model: str, size: tuple[int, int], *, cold: bool = False) -> int:
    """Most memory of a process that restores one photo; one that is not cold shares some with the others."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (300, 400, 3)).astype(np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(folder / "big.jpg", quality=30)
    code = (
        "import sys, codiff_batch.cli.main as m\n"
        "try: m.main(sys.argv[1:])\n"
        "except SystemExit as e: assert not e.code\n"
        # What getrusage calls the peak begins with the memory of the process that started this one.
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    arguments = [str(folder / "big.jpg"), "-q", "--overwrite", "-o", str(folder / "out"), "--model", model]
    program = [sys.executable, "-c", code] if cold else warm.script(code)
    ran = subprocess.run([*program, *arguments], capture_output=True, text=True, check=True)
    assert (folder / "out/big.jpg").is_file()
    return int(ran.stdout) * 1024


@pytest.fixture(scope="module")
def glancing() -> Restorer:
    """A restorer for which a glance is quicker, or would be on another processor."""
    glancing = Restorer.load(device="cpu", precision="bf16")
    assert glancing.can_glance
    return glancing


@pytest.mark.slow
def test_only_fewer_bits_make_a_glance() -> None:
    assert not Restorer.load(device="cpu", precision="fp32").can_glance


@pytest.mark.slow
def test_a_glance_errs_much_less_than_it_may(glancing: Restorer, fine: Pixels) -> None:
    crops = [textured_crops(crush(fine, quality).pixels()) for quality in (5, 20, 45, 57, 63, 75, 90, 97)]
    crops += [textured_crops(JpegPhoto.open(path).pixels()) for path in EXAMPLES.glob("*.jpg")]
    for glance, seen in zip(glancing.embed_crops(crops, glance=True), glancing.embed_crops(crops), strict=True):
        assert 0 < abs(glance.qf - seen.qf) < GLANCE_ERROR / 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("above", "error", "glances"),
    [(3, 0, [True]), (0.5, 0, [True, False]), (-0.5, 0.9, [True, False]), (-3, 0, [False])],
    ids=["by far", "just", "not, but for an error", "by its header not"],
)
def test_a_glance_is_enough_only_for_photos_that_are_good_whatever_its_error(
    glancing: Restorer, monkeypatch: pytest.MonkeyPatch, above: float, error: float, glances: list[bool]
) -> None:
    """Everything else is looked at closely, so that verdicts and restorations are those of any machine."""
    decoded = Decoded.of(JpegPhoto.open(EXAMPLES / "strudel-fine-q95.jpg"))
    crops = decoded.crops(Settings())
    exact = glancing.embed_crops([crops])[0]
    look, taken = glancing.embed_crops, []

    def embed_crops(pictures: Any, *, glance: bool = False) -> list[Embedding]:
        taken.append(glance)
        seen = look(pictures, glance=glance)
        return [replace(each, qf=each.qf + error) for each in seen] if glance else seen

    monkeypatch.setattr(glancing, "embed_crops", embed_crops)
    judging = Judging(min_qf=exact.qf - above)
    (seen,) = look_closely_enough([(decoded, crops)], glancing, Settings(), judging)
    assert taken == glances
    assert (judged(decoded, seen, Settings(), judging).verdict.ground is Ground.GOOD) == (above > 0)
    assert (seen.qf == exact.qf) == (False in glances)


@pytest.mark.slow
def test_of_several_photos_only_those_that_need_it_are_looked_at_again(glancing: Restorer) -> None:
    names = ("strudel-fine-q95.jpg", "lavender-q20.jpg", "strudel-fine-q95.jpg", "ravioli-q10-resaved-q95.jpg")
    pictures = [
        (decoded, decoded.crops(Settings()))
        for decoded in (Decoded.of(JpegPhoto.open(EXAMPLES / name)) for name in names)
    ]
    seen = look_closely_enough(pictures, glancing, Settings(), Judging(60))
    exact = glancing.embed_crops([crops for _, crops in pictures])
    closely = [
        torch.allclose(one.tokens[0].float(), other.tokens[0], atol=1e-3)
        for one, other in zip(seen, exact, strict=True)
    ]
    assert closely == [False, True, False, True]


@pytest.mark.slow
def test_a_batch_only_glances_at_a_good_photo(
    glancing: Restorer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    look, taken = glancing.embed_crops, []

    def embed_crops(pictures: Any, *, glance: bool = False) -> list[Embedding]:
        taken.append(glance)
        return look(pictures, glance=glance)

    monkeypatch.setattr(glancing, "embed_crops", embed_crops)
    options = BatchOptions((EXAMPLES / "strudel-fine-q95.jpg",), output=tmp_path / "out")
    (outcome,) = run_pipeline(options, plan(options), restorer=lambda: glancing)
    assert (outcome.code, taken) == (Ground.GOOD, [True])
