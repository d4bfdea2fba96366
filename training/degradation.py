"""Pairs of a clean patch and its JPEG, as photos meet compression in the wild.

Every encoder call is the real libjpeg through Pillow. Patches come out on the final file's 8x8 grid, as
the engine sees photos.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from codiff_batch.jpeg.quantization import fit_quality
from training.photos import Pixels

CAMERA_TABLES = Path(__file__).with_name("camera_tables.json")
"""Quantization tables of cameras and editors that scale no IJG table."""

AUTHORS_FAVOURITES = (10, 20, 30, 40, 50, 60)
LARGEST_SHRINK = 1.25
"""Pictures that are made smaller between two compressions are at most this much larger before."""

Tables = NDArray[np.uint16]

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
    """Pairs whose quantization tables are not told to the generator (a PNG of a JPEG has none)."""
    camera_tables: float = 0.0
    """First compressions with a camera's or an editor's own tables instead of the IJG's."""
    mozjpeg: float = 0.0
    """Of the other first compressions: with mozjpeg's table, which web sites and messengers use."""
    resized: float = 0.0
    """Of the double ones: made smaller by up to a fifth between the compressions, as web sites do."""
    resized_after: float = 0.0
    """Of the single ones: made smaller after the compression, and not compressed again."""
    noisy: float = 0.0
    """Pictures with noise before they are compressed; it is in the clean patch as well."""
    blurred: float = 0.0
    """Pictures that are soft before they are compressed, so is the clean patch."""
    qf_mix: Literal["wide", "authors"] = "wide"
    """``wide`` is half uniform, half log-uniform in qf_low..qf_high, with the ``fine`` share; ``authors`` is what the
    released code draws: a quarter uniform in 8..95, the rest one of 10, 20, 30, 40, 50, 60."""
    qf_low: float = 5
    qf_high: float = 95


class Pair(NamedTuple):
    """One training example."""

    clean: Pixels
    """(P, P, 3)"""
    compressed: Pixels
    """(P, P, 3)"""
    qf: float
    """The lowest quality factor on the way, 1..100; 100 if untouched."""
    tables: Tables
    """Luma and chroma tables of the last compression, (2, 8, 8); all zero where hidden or absent."""


@dataclass(frozen=True)
class Encoding:
    """How to compress: a quality factor or tables, and Pillow's code of the sampling (0 4:4:4, 1 4:2:2, 2 4:2:0)."""

    qf: int
    subsampling: int
    tables: tuple[tuple[int, ...], ...] | None = None
    """Luma and chroma in natural order; ``qf`` is then the IJG quality factor that is nearest to them."""


def compress(pixels: Pixels, encoding: Encoding) -> tuple[Pixels, Tables]:
    """Encode and decode RGB (H, W, 3) or gray (H, W); returns pixels and tables (2, 8, 8) in natural order."""
    buffer = io.BytesIO()
    how: dict[str, Any] = {"quality": encoding.qf} if encoding.tables is None else {"qtables": encoding.tables}
    Image.fromarray(pixels).save(buffer, "JPEG", subsampling=encoding.subsampling, **how)
    with Image.open(buffer) as image:
        decoded = np.asarray(image)
        luma = np.array(image.quantization[0], np.uint16).reshape(8, 8)  # type: ignore[attr-defined]
        chroma = np.array(image.quantization.get(1, image.quantization[0]), np.uint16).reshape(8, 8)  # type: ignore[attr-defined]
    return decoded, np.stack((luma, chroma))


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


class Degrader:
    """Draws patches from photos and compresses them, from one seeded generator.

    Args:
        seed: a number or several; the same seed draws the same pairs.
    """

    def __init__(self, photos: list[Pixels], patch: int, recipe: Recipe, seed: int | Sequence[int]) -> None:
        self._photos = photos
        self._patch = patch
        self._recipe = recipe
        self._rng = np.random.default_rng(seed)

    def draw(self) -> Pair:
        """Make one pair."""
        rng, recipe, size = self._rng, self._recipe, self._patch
        room = size * (LARGEST_SHRINK if recipe.resized or recipe.resized_after else 1)
        source = self._draw_patch(int(room) + 8)
        if rng.random() < recipe.gray:
            source = np.asarray(Image.fromarray(source).convert("L"))
        source = self._soft_or_noisy(source)
        dy, dx = (int(v) for v in rng.integers(0, 8, 2))
        nothing = np.zeros((2, 8, 8), np.uint16)
        if rng.random() < recipe.untouched:
            clean = _as_rgb(source[dy : dy + size, dx : dx + size])
            return Pair(clean, clean, 100.0, nothing)
        encoding = self._draw_encoding()
        qf = encoding.qf
        if rng.random() >= recipe.double:
            if resized := rng.random() < recipe.resized_after:
                first, _ = compress(source, encoding)
                source, first = self._shrink(source, first)
            clean = source[:size, :size]
            compressed, tables = (first[:size, :size], nothing) if resized else compress(clean, encoding)
        else:
            if rng.random() >= recipe.shifted:
                dy = dx = 0
            first, _ = compress(source, encoding)
            if rng.random() < recipe.resized:
                source, first = self._shrink(source, first)
            place = slice(dy, dy + size), slice(dx, dx + size)
            clean = source[place]
            second_qf = int(rng.integers(85 if rng.random() < recipe.resaved_fine else 20, 99))
            again = np.ascontiguousarray(first[place])
            compressed, tables = compress(again, Encoding(second_qf, self._draw_subsampling()))
            qf = min(qf, second_qf)
        if rng.random() < recipe.tables_hidden:
            tables = nothing
        return Pair(_as_rgb(clean), _as_rgb(compressed), float(qf), tables)

    def _soft_or_noisy(self, source: Pixels) -> Pixels:
        """A picture as a worse camera would have it, for some; the others as they are."""
        rng = self._rng
        if rng.random() < self._recipe.blurred:
            soft = Image.fromarray(source).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 2))))
            source = np.asarray(soft)
        if rng.random() < self._recipe.noisy:
            noise = rng.normal(0, rng.uniform(1, 8), source.shape)
            source = np.clip(np.rint(source + noise), 0, 255).astype(np.uint8)
        return source

    def _shrink(self, *pictures: Pixels) -> list[Pixels]:
        """Make pictures smaller, all by the same factor, so that a patch still fits."""
        side = int(self._rng.integers(self._patch + 8, pictures[0].shape[0] + 1))
        smaller = (Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS) for pixels in pictures)
        return [np.asarray(picture) for picture in smaller]

    def _draw_patch(self, size: int) -> Pixels:
        """A random crop, flipped and turned at random; photos that are too small are mirrored."""
        rng = self._rng
        photo = self._photos[rng.integers(len(self._photos))]
        short = [max(0, size - side) for side in photo.shape[:2]]
        if any(short):
            photo = np.pad(photo, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
        top, left = (int(rng.integers(side - size + 1)) for side in photo.shape[:2])
        patch = np.rot90(photo[top : top + size, left : left + size], int(rng.integers(4)))
        return np.ascontiguousarray(patch[:, ::-1] if rng.random() < 0.5 else patch)

    def _draw_encoding(self) -> Encoding:
        """The first compression."""
        if self._rng.random() < self._recipe.camera_tables:
            cameras = camera_encodings()
            return replace(cameras[self._rng.integers(len(cameras))], subsampling=self._draw_subsampling())
        qf, subsampling = self._draw_qf(), self._draw_subsampling()
        if self._rng.random() < self._recipe.mozjpeg:
            return replace(mozjpeg_encodings()[qf - 1], subsampling=subsampling)
        return Encoding(qf, subsampling)

    def _draw_qf(self) -> int:
        """A quality factor by the recipe's mix; ``wide`` sees the hard low end often."""
        rng, recipe = self._rng, self._recipe
        if recipe.qf_mix == "authors":
            return int(rng.integers(8, 96) if rng.random() < 0.25 else rng.choice(AUTHORS_FAVOURITES))
        if rng.random() < recipe.fine:
            return int(rng.integers(90, 101))
        if rng.random() < 0.5:
            return round(rng.uniform(recipe.qf_low, recipe.qf_high))
        return round(float(np.exp(rng.uniform(np.log(recipe.qf_low), np.log(recipe.qf_high)))))

    def _draw_subsampling(self) -> int:
        """Pillow's code: 2 is 4:2:0, 1 is 4:2:2, 0 is 4:4:4."""
        draw = self._rng.random()
        if draw < self._recipe.chroma_420:
            return 2
        return 1 if draw < self._recipe.chroma_420 + self._recipe.chroma_422 else 0


def _as_rgb(pixels: Pixels) -> Pixels:
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
