"""Two or three versions of one picture side by side, as a page or a single picture."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from codiff_batch.errors import CannotCompare
from codiff_batch.files.atomic import write_atomically
from codiff_batch.files.reading import read_whole
from codiff_batch.metrics import METRICS, Pixels
from codiff_batch.models.catalogue import networks_folder
from codiff_batch.pages.files import address, folder_beside, render, shown

if TYPE_CHECKING:
    from codiff_batch.perceptual import Perceptual

SMALLEST_SIDE = 64
"""Smallest side for LPIPS and DISTS: their networks halve the sides four times."""

AMPLIFIED = 8
"""How much a difference map amplifies differences."""
LABEL_HEIGHT = 34

READERS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "JPEG2000", "GIF", "BMP", "PPM")
"""Pillow's readers for plain pictures; EPS would start Ghostscript, and others need further files."""


@dataclass(frozen=True)
class Panel:
    """One picture and its caption."""

    name: str
    words: str
    pixels: Pixels


def compare(first: Path, second: Path, original: Path | None = None, by_eye: Perceptual | None = None) -> list[Panel]:
    """Read pictures and measure them: against the original if given, else the second against the first.

    Args:
        by_eye: also measures LPIPS and DISTS, if the backbones are available.

    Returns:
        The pictures, (H, W, 3) as stored, and last the map of differences between first and second.

    Raises:
        CannotCompare: one cannot be read, or they differ in size.
    """
    named = {"original": original, "first": first, "second": second}
    read = {kind: _read(path) for kind, path in named.items() if path is not None}
    sizes = {f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in read.values()}
    if len(sizes) > 1:
        raise CannotCompare(f"the pictures differ in size: {', '.join(sorted(sizes))}")
    reference = read["original" if original is not None else "first"]
    panels = []
    for kind, pixels in read.items():
        path = named[kind]
        assert path is not None
        others = [other.name for other in named.values() if other is not None]
        name = path.name if others.count(path.name) == 1 else f"{path.parent.name}/{path.name}"
        panels.append(Panel(name, "" if pixels is reference else nearness(pixels, reference, by_eye), pixels))
    difference = np.abs(read["first"].astype(np.int16) - read["second"])
    shown = (difference * AMPLIFIED).clip(0, 255).astype(np.uint8)
    words = f"mean {difference.mean():.2f}, largest {difference.max()} levels"
    return [*panels, Panel(f"difference x{AMPLIFIED}", words, shown)]


def nearness(pixels: Pixels, reference: Pixels, by_eye: Perceptual | None = None) -> str:
    """Describe how close a picture is to another one, by all metrics that apply to it."""
    if np.array_equal(pixels, reference):
        return "equal"
    words = []
    for metric in METRICS:
        if min(pixels.shape[:2]) >= metric.smallest:
            with contextlib.suppress(ImportError):
                words.append(f"{metric.title} {metric.measure(pixels, reference):.{metric.digits}f}{metric.unit}")
    if by_eye is not None and min(pixels.shape[:2]) >= SMALLEST_SIDE:
        lpips, dists = by_eye(pixels, reference)
        words.append(f"LPIPS {lpips:.4f}, DISTS {dists:.4f}")
    return ", ".join(words)


def perceptual(folder: Path | None) -> Perceptual | None:
    """LPIPS and DISTS, if their backbones are in this folder or where the user keeps them; torch is loaded only then.

    Raises:
        CannotCompare: one of them is missing.
    """
    place = folder or networks_folder()
    if place is None:
        return None
    from codiff_batch.perceptual import Perceptual

    try:
        return Perceptual(place)
    except FileNotFoundError as error:
        raise CannotCompare(str(error)) from error


def write_comparison(target: Path, panels: list[Panel], sources: Sequence[Path]) -> None:
    """Write a comparison: a ``.png`` with the panels in a row, or an ``.html`` page with a folder of pictures.

    Args:
        target: the file.
        panels: from :func:`compare`.
        sources: the compared files; only who may read them may read the comparison.

    Raises:
        PhotoError: the file system refuses.
    """
    if target.suffix.lower() == ".png":
        write_atomically(target, _png(_row(panels)), shown=sources, overwrite=True)
        return
    folder = folder_beside(target)
    figures = []
    for index, panel in enumerate(panels):
        name = f"panel-{index}.png"
        write_atomically(folder / name, _png(Image.fromarray(panel.pixels)), shown=sources, overwrite=True)
        figures.append({"name": shown(panel.name), "words": panel.words, "picture": address(folder, name)})
    write_atomically(target, render("comparison.html", "", figures).encode(), shown=sources, overwrite=True)


LARGEST = 1_000_000_000
"""Bytes of a picture's file; no decoder takes as many pixels as fill it."""


def _read(path: Path) -> Pixels:
    try:
        with Image.open(io.BytesIO(read_whole(path, max_bytes=LARGEST).data), formats=READERS) as image:
            if image.mode[:1] in ("I", "F"):  # Converted to 8 bits, all of it would be white.
                raise ValueError("more than 8 bits per sample, of which only 8 are compared")
            if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
                raise ValueError("parts of it are transparent, which is not compared")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Decoders raise anything on damaged files.
        words = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            words = "empty, damaged, or of an unknown kind"
        raise CannotCompare(f"{shown(path)}: cannot be read as a picture: {words}") from error


def _row(panels: list[Panel]) -> Image.Image:
    height, width = panels[0].pixels.shape[:2]
    row = Image.new("RGB", (width * len(panels) + 8 * (len(panels) - 1), height + LABEL_HEIGHT), "white")
    draw = ImageDraw.Draw(row)
    font = ImageFont.load_default(13)
    for index, panel in enumerate(panels):
        left = index * (width + 8)
        row.paste(Image.fromarray(panel.pixels), (left, LABEL_HEIGHT))
        draw.text((left + 2, 1), panel.name, "black", font=font)
        draw.text((left + 2, 17), panel.words, "black", font=font)
    return row


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
