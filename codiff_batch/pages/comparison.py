"""Two or three versions of one picture side by side, as a page or as one picture."""

from __future__ import annotations

import html
import io
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from codiff_batch.batch.outputs import write_atomically
from codiff_batch.errors import CannotCompare

AMPLIFIED = 8
"""How much brighter than it is a difference map shows a difference."""
LABEL_HEIGHT = 34

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """One picture with what is said of it."""

    name: str
    words: str
    pixels: Pixels


def compare(first: Path, second: Path, original: Path | None = None) -> list[Panel]:
    """Read pictures and measure them: against the original if there is one, else the second against the first.

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
        panels.append(Panel(name, "" if pixels is reference else quality(pixels, reference), pixels))
    difference = np.abs(read["first"].astype(np.int16) - read["second"])
    shown = (difference * AMPLIFIED).clip(0, 255).astype(np.uint8)
    words = f"mean {difference.mean():.2f}, largest {difference.max()} levels"
    return [*panels, Panel(f"difference x{AMPLIFIED}", words, shown)]


def quality(pixels: Pixels, reference: Pixels) -> str:
    """PSNR over RGB, and SSIM where scikit-image is installed."""
    error = np.square(pixels.astype(np.float64) - reference).mean()
    psnr = f"PSNR {10 * np.log10(255**2 / error):.2f} dB" if error else "equal"
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        return psnr
    if min(pixels.shape[:2]) < 7:  # scikit-image's window
        return psnr
    similarity = structural_similarity(reference, pixels, channel_axis=2)  # type: ignore[no-untyped-call]
    return f"{psnr}, SSIM {similarity:.4f}"


def write_comparison(target: Path, panels: list[Panel]) -> None:
    """Write a comparison: a ``.png`` with the panels in a row, or an ``.html`` page with a folder of pictures.

    Raises:
        PhotoError: the file system refuses.
    """
    if target.suffix.lower() == ".png":
        write_atomically(target, _png(_row(panels)), overwrite=True)
        return
    folder = target.with_name(f"{target.stem}-files")
    figures = []
    for index, panel in enumerate(panels):
        name = f"panel-{index}.png"
        write_atomically(folder / name, _png(Image.fromarray(panel.pixels)), overwrite=True)
        source = html.escape(f"{folder.name}/{name}".replace("%", "%25").replace("#", "%23").replace("?", "%3F"))
        caption = f"<b>{html.escape(panel.name)}</b> {html.escape(panel.words)}"
        figures.append(f'<figure><figcaption>{caption}</figcaption><div><img src="{source}" alt=""></div></figure>')
    template = files("codiff_batch.pages").joinpath("comparison.html").read_text("utf-8")
    write_atomically(target, template.replace("@FIGURES@", "\n".join(figures)).encode(), overwrite=True)


def _read(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CannotCompare(f"{path}: cannot be read as a picture: {str(error).splitlines()[0]}") from error


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
