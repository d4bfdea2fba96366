"""Regular patterns to measure on and, by a share of the recipe, to train on.

Facades, bricks, meshes, tiles, stripes, text and screens repeat as compression does, so a network that has seen few of
them takes them for its traces. They are drawn in perspective at three times their size and scaled down, like photos.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.photos import Pixels

OVERSAMPLING = 3
HELD_OUT = 10_000
"""Seeds from here on are for measuring; training seeds are far below."""
WORDING = "light the photograph 1987 harbour of street No. 24 and window summer paper garden 06:45 river to station"

Colour = tuple[int, int, int]
Canvas = Image.Image
Painter = Callable[[ImageDraw.ImageDraw, int, np.random.Generator], None]


def _colour(rng: np.random.Generator, low: int = 0, high: int = 256) -> Colour:
    drawn = rng.integers(low, high, 3)
    muted = drawn.mean() + (drawn - drawn.mean()) * rng.random()
    red, green, blue = (int(v) for v in muted)
    return red, green, blue


def _near(rng: np.random.Generator, colour: Colour, spread: int) -> Colour:
    red, green, blue = (int(np.clip(c + rng.integers(-spread, spread + 1), 0, 255)) for c in colour)
    return red, green, blue


def _facade(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    wall, glass = _colour(rng, 90), _colour(rng, 10, 110)
    draw.rectangle((0, 0, side, side), fill=wall)
    across, down = (int(v) for v in rng.integers(24, 90, 2))
    width, height = int(across * rng.uniform(0.4, 0.8)), int(down * rng.uniform(0.4, 0.8))
    for top in range(0, side, down):
        for left in range(0, side, across):
            draw.rectangle((left, top, left + width, top + height), fill=_near(rng, glass, 25))
            draw.line((left + width // 2, top, left + width // 2, top + height), fill=wall, width=2)


def _bricks(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    mortar, brick = _colour(rng, 120), _colour(rng, 50, 190)
    draw.rectangle((0, 0, side, side), fill=mortar)
    height = int(rng.integers(12, 36))
    length, joint = int(height * rng.uniform(1.5, 3.5)), max(2, height // 8)
    for row, top in enumerate(range(0, side, height)):
        for left in range(-length * (row % 2) // 2, side, length):
            draw.rectangle((left, top, left + length - joint, top + height - joint), fill=_near(rng, brick, 22))


def _mesh(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, side, side), fill=_colour(rng))
    wire, step, width = _colour(rng), int(rng.integers(12, 48)), int(rng.integers(2, 7))
    for start in range(-side, 2 * side, step):
        draw.line((start, 0, start + side, side), fill=wire, width=width)
        draw.line((start, side, start + side, 0), fill=wire, width=width)


def _tiles(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    step, pair = int(rng.integers(10, 70)), (_colour(rng), _colour(rng))
    for row, top in enumerate(range(0, side, step)):
        for column, left in enumerate(range(0, side, step)):
            fill = _near(rng, pair[(row + column) % 2], 6)
            draw.rectangle((left, top, left + step - 1, top + step - 1), fill=fill)


def _stripes(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    colours = [_colour(rng) for _ in range(int(rng.integers(2, 5)))]
    width = int(rng.integers(6, 30))
    for index, left in enumerate(range(0, side, width)):
        draw.rectangle((left, 0, left + width - 1, side), fill=colours[index % len(colours)])


def _text(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    dark = rng.random() < 0.3
    paper, ink = _colour(rng, 190), _colour(rng, 0, 80)
    draw.rectangle((0, 0, side, side), fill=ink if dark else paper)
    size = int(rng.integers(26, 72))
    font = ImageFont.load_default(size)
    for top in range(size // 3, side, int(size * 1.4)):
        line = " ".join(rng.choice(WORDING.split(), 40))
        draw.text((size // 2, top), line, fill=paper if dark else ink, font=font)


def _screen(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    """Panels, rules and lines of text, as programs show them."""
    draw.rectangle((0, 0, side, side), fill=_colour(rng, 200))
    for _ in range(int(rng.integers(6, 14))):
        left, top = (int(v) for v in rng.integers(0, side, 2))
        right, bottom = left + int(rng.integers(80, side // 2)), top + int(rng.integers(60, side // 2))
        accent, size = _colour(rng), int(rng.integers(24, 48))
        draw.rectangle((left, top, right, bottom), fill=_colour(rng, 220), outline=accent, width=3)
        draw.rectangle((left, top, right, top + size), fill=accent)
        title = str(rng.choice(WORDING.split()))
        draw.text((left + 12, top), title, fill="white", font=ImageFont.load_default(size * 0.8))
        for rule in range(top + 2 * size, bottom, size):
            draw.line((left + 12, rule, right - 12, rule), fill=accent, width=3)


KINDS: Mapping[str, Painter] = MappingProxyType(
    {
        "facade": _facade,
        "bricks": _bricks,
        "mesh": _mesh,
        "tiles": _tiles,
        "stripes": _stripes,
        "text": _text,
        "screen": _screen,
    }
)


def draw_pattern(kind: str, seed: int, side: int = 256) -> Pixels:
    """Draw one pattern, uint8 (side, side, 3); the same arguments give the same picture.

    Args:
        kind: one of :data:`KINDS`.
        seed: decides colours, sizes, perspective, light, sharpness and grain.
    """
    rng = np.random.default_rng((list(KINDS).index(kind), seed))
    large = side * OVERSAMPLING
    canvas = Image.new("RGB", (large, large))
    KINDS[kind](ImageDraw.Draw(canvas), large, rng)
    if kind != "screen":
        canvas = _seen_aslant(canvas, rng)
    canvas = canvas.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2.5))))
    levels = np.asarray(canvas.resize((side, side), Image.Resampling.BOX), np.float32)
    if kind != "screen":
        levels = levels * _light(side, rng) + rng.normal(0, rng.uniform(0, 3), (side, side, 1))
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def draw_patterns(count: int, first_seed: int = 0) -> list[Pixels]:
    """Draw patterns of all kinds in turn; different seeds give different pictures."""
    kinds = list(KINDS)
    return [draw_pattern(kinds[i % len(kinds)], first_seed + i // len(kinds)) for i in range(count)]


def _seen_aslant(canvas: Canvas, rng: np.random.Generator) -> Canvas:
    """The middle of the canvas from a small angle, turned and foreshortened."""
    side = canvas.width
    corners = np.array([(0, 0), (0, side), (side, side), (side, 0)], float)
    moved = corners + rng.uniform(0.02, 0.16, (4, 2)) * side * np.sign(side / 2 - corners)
    return canvas.transform(
        canvas.size, Image.Transform.QUAD, [float(v) for v in moved.ravel()], resample=Image.Resampling.BICUBIC
    )


def _light(side: int, rng: np.random.Generator) -> np.ndarray:
    """Falls off evenly in some direction, (side, side, 1)."""
    slope = rng.uniform(-0.3, 0.3, 2)
    across = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    light: np.ndarray = (0.9 + slope[0] * across[:, None] + slope[1] * across[None])[..., None]
    return light
