"""Pairs of a clean patch and its JPEG, as photos meet compression in the wild.

Every encoder call is the real libjpeg through Pillow. Patches come out on the final file's 8x8 grid, as
the engine sees photos.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.photos import Pixels

Tables = NDArray[np.uint16]


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


def compress(pixels: Pixels, qf: int, subsampling: int) -> tuple[Pixels, Tables]:
    """Encode and decode RGB (H, W, 3) or gray (H, W); returns pixels and tables (2, 8, 8) in natural order."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=qf, subsampling=subsampling)
    with Image.open(buffer) as image:
        decoded = np.asarray(image)
        luma = np.array(image.quantization[0], np.uint16).reshape(8, 8)  # type: ignore[attr-defined]
        chroma = np.array(image.quantization.get(1, image.quantization[0]), np.uint16).reshape(8, 8)  # type: ignore[attr-defined]
    return decoded, np.stack((luma, chroma))


class Degrader:
    """Draws patches from photos and compresses them, from one seeded generator."""

    def __init__(self, photos: list[Pixels], patch: int, recipe: Recipe, seed: int) -> None:
        self._photos = photos
        self._patch = patch
        self._recipe = recipe
        self._rng = np.random.default_rng(seed)

    def draw(self) -> Pair:
        """Make one pair."""
        rng, recipe, size = self._rng, self._recipe, self._patch
        source = self._draw_patch(size + 8)
        if rng.random() < recipe.gray:
            source = np.asarray(Image.fromarray(source).convert("L"))
        dy, dx = (int(v) for v in rng.integers(0, 8, 2))
        nothing = np.zeros((2, 8, 8), np.uint16)
        if rng.random() < recipe.untouched:
            clean = _as_rgb(source[dy : dy + size, dx : dx + size])
            return Pair(clean, clean, 100.0, nothing)
        subsampling = self._draw_subsampling()
        qf = self._draw_qf()
        if rng.random() >= recipe.double:
            clean = source[:size, :size]
            compressed, tables = compress(clean, qf, subsampling)
        else:
            if rng.random() >= recipe.shifted:
                dy = dx = 0
            clean = source[dy : dy + size, dx : dx + size]
            first, _ = compress(source, qf, subsampling)
            second_qf = int(rng.integers(85 if rng.random() < recipe.resaved_fine else 20, 99))
            again = np.ascontiguousarray(first[dy : dy + size, dx : dx + size])
            compressed, tables = compress(again, second_qf, self._draw_subsampling())
            qf = min(qf, second_qf)
        if rng.random() < recipe.tables_hidden:
            tables = nothing
        return Pair(_as_rgb(clean), _as_rgb(compressed), float(qf), tables)

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

    def _draw_qf(self) -> int:
        """Half uniform, half log-uniform, so that the hard low end is seen often; a share is nearly perfect."""
        rng, recipe = self._rng, self._recipe
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
