"""Pairs of a clean patch and its JPEG, compressed as photos are in the wild.

Every encoder call is the real libjpeg through Pillow. Patches come out on the final file's 8x8 grid, as
the engine sees photos.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.photos import Pixels
from training.recipe import GRID, Encoding, Plan, Recipe, draw_plan

LARGEST_SHRINK = 1.25
"""Pictures that are downscaled after a compression are at most this much larger before."""

Tables = NDArray[np.uint16]


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
        plan, size = draw_plan(self._recipe, self._rng), self._patch
        source = self._seen(plan, self._draw_patch(int(size * (LARGEST_SHRINK if plan.shrinks else 1)) + GRID))
        if plan.second is None and not plan.shrinks:
            # A picture compressed only once ends where the patch does.
            source = source[:size, :size]
        compressed = source if plan.first is None else compress(source, plan.first)[0]
        if plan.shrinks:
            source, compressed = self._shrink(source, compressed)
        dy, dx = plan.shift
        clean, compressed = (pixels[dy : dy + size, dx : dx + size] for pixels in (source, compressed))
        if plan.second is not None:
            compressed, _ = compress(np.ascontiguousarray(compressed), plan.second)
        return Pair(_as_rgb(clean), _as_rgb(compressed), plan.qf, plan.told)

    def _seen(self, plan: Plan, source: Pixels) -> Pixels:
        """The camera's picture, before any compression."""
        if plan.gray:
            source = np.asarray(Image.fromarray(source).convert("L"))
        if plan.blur:
            source = np.asarray(Image.fromarray(source).filter(ImageFilter.GaussianBlur(plan.blur)))
        if plan.noise:
            levels = source + self._rng.normal(0, plan.noise, source.shape)
            source = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return source

    def _shrink(self, *pictures: Pixels) -> list[Pixels]:
        """Downscale pictures, all by the same factor, so that a patch still fits."""
        side = int(self._rng.integers(self._patch + GRID, pictures[0].shape[0] + 1))
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


def _as_rgb(pixels: Pixels) -> Pixels:
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
