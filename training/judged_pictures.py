"""Pictures of the kinds that are hard to judge.

Flat, drawn and dark pictures have little that compression could leave traces in, and lines of text resemble traces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.patterns import WORDING, draw_pattern
from training.photos import Pixels

SIDES = (512, 384)
"""Width and height of drawn pictures."""

Drawer = Callable[[np.random.Generator], Pixels]


def _night(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """A dark picture with the noise of a small sensor."""
    dark = photo.astype(np.float32) * rng.uniform(0.1, 0.25) + 5
    noise = rng.normal(0, 3, (*dark.shape[:2], 1)) + rng.normal(0, 2, dark.shape)
    return np.clip(np.rint(dark + noise), 0, 255).astype(np.uint8)


def _blur(photo: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(float(rng.uniform(2, 5)))))


def _black_and_white(photo: Pixels, _: np.random.Generator) -> Pixels:
    """In three equal channels."""
    return np.repeat(np.asarray(Image.fromarray(photo).convert("L"))[..., None], 3, axis=2)


FROM_PHOTOS: Mapping[str, Callable[[Pixels, np.random.Generator], Pixels]] = MappingProxyType(
    {"photo": lambda photo, _: photo, "night": _night, "blur": _blur, "black and white": _black_and_white}
)
"""Kinds made from a photo."""


def _page(rng: np.random.Generator, paper: int, ink: int) -> Pixels:
    """Lines of text of one size, with a heading."""
    image = Image.new("RGB", SIDES, (paper,) * 3)
    draw = ImageDraw.Draw(image)
    size, top = int(rng.integers(10, 20)), 12
    draw.text((16, top), str(rng.choice(WORDING.split())), fill=(ink,) * 3, font=ImageFont.load_default(size * 2))
    for line in range(top + 3 * size, SIDES[1] - size, int(size * 1.5)):
        words = " ".join(rng.choice(WORDING.split(), 14))
        draw.text((16, line), words, fill=(ink,) * 3, font=ImageFont.load_default(size))
    return np.asarray(image)


def _chart(rng: np.random.Generator) -> Pixels:
    """Axes, bars and a curve on white."""
    image = Image.new("RGB", SIDES, "white")
    draw = ImageDraw.Draw(image)
    colours = [tuple(int(v) for v in rng.integers(0, 220, 3)) for _ in range(3)]
    draw.line((50, 20, 50, 340, 490, 340), fill="black", width=2)
    for number, left in enumerate(range(70, 470, 40)):
        draw.rectangle((left, int(rng.integers(60, 320)), left + 22, 338), fill=colours[number % 2])
        draw.text((left, 346), str(rng.integers(1990, 2030)), fill="black", font=ImageFont.load_default(11))
        draw.line((50, 20 + 32 * number, 490, 20 + 32 * number), fill=(225, 225, 225))
    heights = 180 + np.cumsum(rng.normal(0, 12, 43))
    draw.line([(60 + 10 * at, float(y)) for at, y in enumerate(heights)], fill=colours[2], width=3)
    return np.asarray(image)


def _flat(rng: np.random.Generator) -> Pixels:
    """One colour, a few areas, or an even gradient, some with a little grain."""
    width, height = SIDES
    first, second = rng.integers(0, 256, (2, 3))
    slope = np.linspace(0, 1, width)[None, :, None] * rng.choice([0, 1]) + np.zeros((height, 1, 1))
    picture = first + (second - first) * slope * rng.uniform(0.05, 1)
    if rng.random() < 0.4:
        picture[height // 3 : height // 2, width // 4 : width // 2] = second
    picture = picture + rng.normal(0, 1, picture.shape) * rng.choice([0, 0, 0.7])
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


DRAWN: Mapping[str, Drawer] = MappingProxyType(
    {
        "text": lambda rng: _page(rng, int(rng.integers(225, 256)), int(rng.integers(0, 70))),
        "dark text": lambda rng: _page(rng, int(rng.integers(8, 45)), int(rng.integers(150, 256))),
        "chart": _chart,
        "screen": lambda rng: draw_pattern("screen", int(rng.integers(1 << 30)), 384),
        "flat": _flat,
    }
)
"""Kinds that are drawn."""
