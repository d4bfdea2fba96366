"""A part of a photo is shown as a batch restores it within the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.engine.judge import Ground
from codiff_batch.preview.choose import Chosen
from codiff_batch.preview.judging import Photo
from codiff_batch.preview.settings import Setting
from codiff_batch.preview.work import restore_samples, take_samples
from tests.photos import jpeg, write

PHOTOS = Path(__file__).parents[2] / "examples/photos"


def levels(name: str) -> NDArray[np.uint8]:
    with Image.open(PHOTOS / name) as picture:
        return np.asarray(picture.convert("RGB"))


def saved_again() -> bytes:
    """Crushed and saved again all around; in the middle, where most is to be seen, never crushed."""
    crushed = np.tile(levels("ravioli-q10-resaved-q95.jpg"), (2, 2, 1))
    fine = np.tile(levels("strudel-fine-q95.jpg")[:304, :304], (2, 2, 1))[:448, :448]
    crushed[256:704, 256:704] = np.clip((fine.astype(int) - 128) * 2 + 128, 0, 255)
    return jpeg(95, image=Image.fromarray(crushed))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["crushed", "saved again"])
def test_a_part_is_restored_as_a_batch_restores_it_within_the_whole(
    tmp_path: Path, run: Callable[..., Any], kind: str
) -> None:
    data = (PHOTOS / "lavender-q20.jpg").read_bytes() if kind == "crushed" else saved_again()
    source = write(tmp_path / "in/photo.jpg", data)
    options, setting = BatchOptions((source,), model="fast", devices=("cpu",)), Setting("fast")
    outcome = Outcome(source, None, Kind.WOULD_BE_RESTORED, "", Ground.HEADER)
    (sample,) = take_samples([Chosen(0, kind)], [Photo(outcome, 20)], options)
    restore_samples([sample], [setting], options, lambda: None)
    ran = run(source.parent, "-o", tmp_path / "out", "--model", "fast", "--format", "png", "--min-qf", 100, "-q")
    assert ran.code == 0, ran.err
    whole = np.asarray(Image.open(tmp_path / "out/photo.png"), int)
    restored, before = sample.versions[setting].pixels, sample.before.astype(int)
    change = np.abs(whole[sample.shown.place] - before).mean()
    assert np.abs(whole[sample.shown.place] - restored).mean() < change / 10
    if kind == "saved again":  # or the case would show nothing
        assert replace(sample.part, whole=None).history != sample.part.history
