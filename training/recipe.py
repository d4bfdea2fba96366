"""What happens to each training picture, drawn at random; carried out by libjpeg or on a device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codiff_batch.jpeg.quantization import fit_quality, ijg_table

GRID = 8
"""Side of a block of JPEG in pixels."""

CAMERA_TABLES = Path(__file__).with_name("camera_tables.json")
"""Quantization tables of cameras and editors that scale no IJG table."""

AUTHORS_FAVOURITES = (10, 20, 30, 40, 50, 60)

MOZJPEG_TABLE = np.array(
    [
        [16, 16, 16, 18, 25, 37, 56, 85],
        [16, 17, 20, 27, 34, 40, 53, 75],
        [16, 20, 24, 31, 43, 62, 91, 135],
        [18, 27, 31, 40, 53, 74, 106, 156],
        [25, 34, 43, 53, 69, 94, 131, 189],
        [37, 40, 62, 74, 94, 124, 169, 238],
        [56, 53, 91, 106, 131, 169, 226, 311],
        [85, 75, 135, 156, 189, 238, 311, 418],
    ]
)
"""N. Robidoux's, at quality 50, for luma and chroma alike: mozjpeg's default."""


@dataclass(frozen=True)
class Recipe:
    """Shares of each kind of pair; the rest is one plain compression in colour."""

    untouched: float = 0.04
    """Pairs without any compression: teaches when not to act."""
    fine: float = 0.12
    """First compressions at QF 90..100."""
    gray: float = 0.08
    double: float = 0.4
    """Compressed twice; the clean patch is still the target."""
    shifted: float = 0.6
    """Of the double ones: first grid shifted against the second."""
    resaved_fine: float = 0.5
    """Of the double ones: second compression at QF 85..98, as editors save; the rest at 20..98."""
    chroma_420: float = 0.65
    chroma_422: float = 0.08
    tables_hidden: float = 0.35
    """Pairs whose quantization tables are hidden from the generator (a PNG of a JPEG has none)."""
    camera_tables: float = 0.0
    """First compressions with a camera's or an editor's own tables instead of the IJG's."""
    mozjpeg: float = 0.0
    """Of the other first compressions: with mozjpeg's table, which web sites and messengers use."""
    resized: float = 0.0
    """Of the double ones: downscaled by up to a fifth between the compressions, as web sites do."""
    resized_after: float = 0.0
    """Of the single ones: downscaled after the compression, and not compressed again."""
    noisy: float = 0.0
    """Pictures with noise before they are compressed; it is in the clean patch as well."""
    blurred: float = 0.0
    """Pictures that are soft before they are compressed; the clean patch is soft as well."""
    qf_mix: Literal["wide", "authors"] = "wide"
    """``wide`` is half uniform, half log-uniform in qf_low..qf_high, with the ``fine`` share; ``authors`` is what the
    released code draws: a quarter uniform in 8..95, the rest one of 10, 20, 30, 40, 50, 60."""
    qf_low: float = 5
    qf_high: float = 95


@dataclass(frozen=True)
class Encoding:
    """How to compress: a quality factor or tables, and Pillow's code of the sampling (0 4:4:4, 1 4:2:2, 2 4:2:0)."""

    qf: int
    subsampling: int
    tables: tuple[tuple[int, ...], ...] | None = None
    """Luma and chroma in natural order; ``qf`` is then the IJG quality factor that is nearest to them."""

    @property
    def steps(self) -> NDArray[np.uint16]:
        """Luma and chroma steps (2, 8, 8) in natural order."""
        if self.tables is not None:
            return np.array(self.tables, np.uint16).reshape(2, 8, 8)
        return np.stack([ijg_table(self.qf, chroma=chroma) for chroma in (False, True)])


@cache
def camera_encodings() -> Sequence[Encoding]:
    """Encodings with the tables of :data:`CAMERA_TABLES`; their sampling is to be replaced."""
    found = []
    for row in json.loads(CAMERA_TABLES.read_text(encoding="utf-8")):
        tables = tuple(row["luma"]), tuple(row["chroma"])
        qf, _ = fit_quality([np.array(table, np.uint16).reshape(8, 8) for table in tables])
        found.append(Encoding(round(qf), 0, tables))
    return tuple(found)


@cache
def mozjpeg_encodings() -> Sequence[Encoding]:
    """Encodings with mozjpeg's default table at its quality factors 1..100; their sampling is to be replaced."""
    found = []
    for quality in range(1, 101):
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        table = ((MOZJPEG_TABLE * scale + 50) // 100).clip(1, 255)
        qf, _ = fit_quality([table.astype(np.uint16)])
        steps = tuple(int(step) for step in table.ravel())
        found.append(Encoding(round(qf), 0, (steps, steps)))
    return tuple(found)


class Plan(NamedTuple):
    """What happens to one picture, in this order."""

    gray: bool
    blur: float
    """Standard deviation in pixels; 0 for none."""
    noise: float
    """Standard deviation in levels; 0 for none."""
    first: Encoding | None
    """None for an untouched picture."""
    shrinks: bool
    """Whether it is downscaled after the first compression."""
    shift: tuple[int, int]
    """Rows and columns, 0..7, by which the patch lies off the first compression's grid."""
    second: Encoding | None
    tables_hidden: bool

    @property
    def qf(self) -> float:
        """The lowest quality factor on the way, 1..100; 100 if untouched."""
        return float(min([100, *(encoding.qf for encoding in (self.first, self.second) if encoding)]))

    @property
    def told(self) -> NDArray[np.uint16]:
        """The tables given to the generator, (2, 8, 8): the last compression's, or zeros.

        Only those of the hardest compression: whoever is told them can rely on the truth lying in their cells.
        """
        last = self.second or self.first
        is_no_jpeg = last is None or (self.shrinks and self.second is None)
        lies = last is not None and last.qf > self.qf
        if is_no_jpeg or lies or self.tables_hidden:
            return np.zeros((2, 8, 8), np.uint16)
        return last.steps


def draw_plan(recipe: Recipe, rng: np.random.Generator) -> Plan:
    """Draw what happens to one picture."""

    def happens(share: float) -> bool:
        return bool(rng.random() < share)

    untouched = happens(recipe.untouched)
    twice = not untouched and happens(recipe.double)
    shifted = twice and happens(recipe.shifted)
    return Plan(
        gray=happens(recipe.gray),
        blur=rng.uniform(0.4, 2) if happens(recipe.blurred) else 0.0,
        noise=rng.uniform(1, 8) if happens(recipe.noisy) else 0.0,
        first=None if untouched else _draw_first(recipe, rng),
        shrinks=not untouched and happens(recipe.resized if twice else recipe.resized_after),
        shift=(int(rng.integers(GRID)), int(rng.integers(GRID))) if shifted else (0, 0),
        second=_draw_second(recipe, rng) if twice else None,
        tables_hidden=happens(recipe.tables_hidden),
    )


def _draw_first(recipe: Recipe, rng: np.random.Generator) -> Encoding:
    subsampling, qf = _draw_subsampling(recipe, rng), _draw_qf(recipe, rng)
    if rng.random() < recipe.camera_tables:
        cameras = camera_encodings()
        return replace(cameras[rng.integers(len(cameras))], subsampling=subsampling)
    if rng.random() < recipe.mozjpeg:
        return replace(mozjpeg_encodings()[qf - 1], subsampling=subsampling)
    return Encoding(qf, subsampling)


def _draw_second(recipe: Recipe, rng: np.random.Generator) -> Encoding:
    lowest = 85 if rng.random() < recipe.resaved_fine else 20
    return Encoding(int(rng.integers(lowest, 99)), _draw_subsampling(recipe, rng))


def _draw_qf(recipe: Recipe, rng: np.random.Generator) -> int:
    """A quality factor by the recipe's mix; ``wide`` sees the hard low end often."""
    if recipe.qf_mix == "authors":
        return int(rng.integers(8, 96) if rng.random() < 0.25 else rng.choice(AUTHORS_FAVOURITES))
    if rng.random() < recipe.fine:
        return int(rng.integers(90, 101))
    if rng.random() < 0.5:
        return round(rng.uniform(recipe.qf_low, recipe.qf_high))
    return round(float(np.exp(rng.uniform(np.log(recipe.qf_low), np.log(recipe.qf_high)))))


def _draw_subsampling(recipe: Recipe, rng: np.random.Generator) -> int:
    """Pillow's code: 2 is 4:2:0, 1 is 4:2:2, 0 is 4:4:4."""
    draw = rng.random()
    if draw < recipe.chroma_420:
        return 2
    return 1 if draw < recipe.chroma_420 + recipe.chroma_422 else 0
