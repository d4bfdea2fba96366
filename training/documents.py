"""Drawn pages, screens, charts, gradients and flat pictures: JPEGs that no camera took.

CaVE judges them as well, and beside hard edges or in flat areas compression looks unlike anything in photos.
Everything is drawn at its final size, as programs do, so letters are small and lines one pixel wide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.patterns import WORDING, Colour
from training.photos import Pixels

Painter = Callable[[Image.Image, np.random.Generator], None]

WORDS = WORDING.split()


def _shade(rng: np.random.Generator, low: int, high: int) -> Colour:
    """A colour whose channels lie in low..high - 1."""
    red, green, blue = (int(value) for value in rng.integers(low, high, 3))
    return red, green, blue


def _write(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], ink: Colour, rng: np.random.Generator) -> None:
    """Fill a box with lines of text."""
    size = int(rng.integers(9, 19))
    font, leading = ImageFont.load_default(size), int(size * rng.uniform(1.2, 1.7))
    left, top, right, bottom = box
    for line in range(top, bottom - size, leading):
        words = " ".join(rng.choice(WORDS, 30))
        # A letter is about half as wide as it is high.
        draw.text((left, line), words[: max(1, 2 * (right - left) // size)], fill=ink, font=font)


def _page(canvas: Image.Image, rng: np.random.Generator) -> None:
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    white = rng.random() < 0.6
    paper, ink = ((255, 255, 255), (0, 0, 0)) if white else (_shade(rng, 225, 256), _shade(rng, 0, 80))
    if rng.random() < 0.2:
        paper, ink = ink, paper
    draw.rectangle((0, 0, side, side), fill=paper)
    margin, columns = int(rng.integers(4, side // 6)), int(rng.integers(1, 3))
    for column in range(columns):
        left = margin + column * side // columns
        _write(draw, (left, margin, (column + 1) * side // columns - 8, side - margin), ink, rng)
    if rng.random() < 0.4:
        height = int(rng.integers(side))
        draw.line((margin, height, side - margin, height), fill=ink)


def _screen(canvas: Image.Image, rng: np.random.Generator) -> None:
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    dark = rng.random() < 0.35
    ground, panel, ink = (
        (_shade(rng, 15, 50), _shade(rng, 30, 70), _shade(rng, 180, 256))
        if dark
        else (_shade(rng, 225, 256), (255, 255, 255), _shade(rng, 0, 90))
    )
    draw.rectangle((0, 0, side, side), fill=ground)
    accent = _shade(rng, 0, 256)
    for _ in range(int(rng.integers(2, 6))):
        left, top = (int(value) for value in rng.integers(0, side * 3 // 4, 2))
        right, bottom = left + int(rng.integers(60, side)), top + int(rng.integers(40, side))
        draw.rounded_rectangle((left, top, right, bottom), int(rng.integers(0, 9)), fill=panel, outline=accent)
        draw.rectangle((left, top, right, top + 18), fill=accent)
        draw.text((left + 6, top + 3), str(rng.choice(WORDS)), fill="white", font=ImageFont.load_default(12))
        _write(draw, (left + 6, top + 24, min(right, side) - 6, min(bottom, side)), ink, rng)


def _chart(canvas: Image.Image, rng: np.random.Generator) -> None:
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, side, side), fill="white")
    for height in range(int(rng.integers(10, 30)), side, int(rng.integers(20, 50))):
        draw.line((24, height, side, height), fill=(215, 215, 215))
        draw.text((2, height - 5), str(rng.integers(1000)), fill="black", font=ImageFont.load_default(9))
    draw.line((24, 0, 24, side), fill="black")
    if rng.random() < 0.5:
        width = int(rng.integers(6, 30))
        colour = _shade(rng, 0, 230)
        for left in range(30, side, width + int(rng.integers(2, 10))):
            draw.rectangle((left, int(rng.integers(10, side - 8)), left + width, side - 4), fill=colour)
    else:
        for _ in range(int(rng.integers(1, 5))):
            heights = np.clip(rng.integers(side) + np.cumsum(rng.normal(0, 9, side // 6)), 2, side - 2)
            points = [(24.0 + 6 * step, float(height)) for step, height in enumerate(heights)]
            draw.line(points, fill=_shade(rng, 0, 230), width=int(rng.integers(1, 4)))


def _gradient(canvas: Image.Image, rng: np.random.Generator) -> None:
    side = canvas.width
    across = np.linspace(0, 1, side, dtype=np.float32)
    slope = rng.uniform(-1, 1, 2)
    place = np.clip(0.5 + slope[0] * (across[:, None] - 0.5) + slope[1] * (across[None] - 0.5), 0, 1)[..., None]
    ends = rng.uniform(0, 255, (2, 3))
    ends[1] = ends[0] + (ends[1] - ends[0]) * rng.uniform(0.05, 1)
    levels = ends[0] + place * (ends[1] - ends[0]) + rng.normal(0, rng.choice((0.0, 0.3, 1.0)), (side, side, 1))
    canvas.paste(Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8)))


def _flat(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Areas of one colour each, as logos and drawings have them."""
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, side, side), fill=_shade(rng, 0, 256))
    for _ in range(int(rng.integers(0, 7))):
        x, y, width, height = (int(value) for value in rng.integers(8, side, 4))
        shape = (x - width // 2, y - height // 2, x + width // 2, y + height // 2)
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(shape, fill=_shade(rng, 0, 256))


KINDS: Mapping[str, Painter] = MappingProxyType(
    {"page": _page, "screen": _screen, "chart": _chart, "gradient": _gradient, "flat": _flat}
)


def draw_document(kind: str, seed: int, side: int = 256) -> Pixels:
    """Draw one picture, uint8 (side, side, 3); the same arguments give the same picture.

    Args:
        kind: one of :data:`KINDS`.
        seed: seeds from :data:`training.patterns.HELD_OUT` on are for measuring.
    """
    canvas = Image.new("RGB", (side, side))
    KINDS[kind](canvas, np.random.default_rng((list(KINDS).index(kind), seed)))
    return np.asarray(canvas)


def draw_documents(count: int, first_seed: int = 0) -> list[Pixels]:
    """Draw pictures of all kinds in turn; different seeds give different pictures."""
    kinds = list(KINDS)
    return [draw_document(kinds[i % len(kinds)], first_seed + i // len(kinds)) for i in range(count)]
