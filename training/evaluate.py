"""Measure models on lossless photos: compress, restore, compare.

Run as ``python -m training.evaluate --photos DIR [--model NAME]... [--qf 10]... [--json FILE]``.

PSNR and SSIM are over RGB as FBCNN and SwinIR publish them, so the rows can be put beside theirs. PSNR-B follows its
own paper and comes out lower than in their tables.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codiff_batch.engine import Restorer, restore_photo
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.metrics import psnr, ssim
from codiff_batch.perceptual import Perceptual
from training.photos import SUFFIXES

Pixels = NDArray[np.uint8]
SUBSAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


@dataclass(frozen=True)
class Score:
    """One photo at one QF through one model."""

    photo: str
    model: str
    qf: int
    psnr: float
    ssim: float
    psnr_b: float
    estimated_qf: float
    lpips: float = float("nan")
    dists: float = float("nan")


def psnr_b(image: Pixels, reference: Pixels) -> float:
    """PSNR with the blocking effect factor added to the error (Yim and Bovik 2011), in dB, mean over channels."""
    stacked = [pixels.reshape(*pixels.shape[:2], -1).astype(np.float64) for pixels in (image, reference)]
    values = []
    for plane, truth in zip(*(np.moveaxis(pixels, 2, 0) for pixels in stacked), strict=True):
        error = np.mean((plane - truth) ** 2) + _blocking(plane)
        values.append(10 * np.log10(255**2 / error) if error else np.inf)
    return float(np.mean(values))


def _blocking(plane: NDArray[np.float64]) -> float:
    """Blocking effect factor of one channel (H, W): how much larger steps are at 8-pixel boundaries than elsewhere."""
    height, width = plane.shape
    across, down = np.diff(plane, axis=1) ** 2, np.diff(plane, axis=0) ** 2
    at_columns, at_rows = np.arange(7, width - 1, 8), np.arange(7, height - 1, 8)
    boundary = across[:, at_columns].sum() + down[at_rows].sum()
    inside = across.sum() + down.sum() - boundary
    boundary_count = height * len(at_columns) + width * len(at_rows)
    inside_count = across.size + down.size - boundary_count
    boundary_mean, inside_mean = boundary / boundary_count, inside / inside_count
    if boundary_mean <= inside_mean:
        return 0.0
    return float(np.log2(8) / np.log2(min(height, width)) * (boundary_mean - inside_mean))


@dataclass(frozen=True)
class Resave:
    """A second compression after the first, as by an editor."""

    qf: int
    shift: int
    """Rows and columns cut off before, so that the 8x8 grids differ."""


def find_lossless(folder: Path) -> list[Path]:
    """The pictures of a folder to measure on, in a stable order."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def compress(pixels: Pixels, qf: int, sampling: str) -> JpegPhoto:
    """Pillow's JPEG of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=qf, subsampling=SUBSAMPLING[sampling])
    return JpegPhoto.from_bytes(buffer.getvalue())


def measure(
    photo: Path,
    qf: int,
    sampling: str,
    restorers: Iterable[Restorer],
    *,
    constrain: bool,
    perceptual: Perceptual | None = None,
    resave: Resave | None = None,
) -> Iterable[Score]:
    """Score the JPEG itself and each model on one photo."""
    with Image.open(photo) as image:
        clean = np.asarray(image if image.mode in ("RGB", "L") else image.convert("RGB"))
    jpeg = compress(clean, qf, sampling)
    if resave is not None:
        clean = clean[resave.shift :, resave.shift :]
        jpeg = compress(jpeg.pixels()[resave.shift :, resave.shift :], resave.qf, sampling)
    decoded = jpeg.pixels()
    results = [("jpeg", decoded, jpeg.header.qf)]
    for restorer in restorers:
        restored = restore_photo(jpeg, restorer, constrain=constrain, pixels=decoded)
        results.append((restorer.name, restored, restorer.estimate_qf(decoded)))
    for name, picture, estimate in results:
        faithful = psnr(picture, clean), ssim(picture, clean), psnr_b(picture, clean)
        natural = perceptual(picture, clean) if perceptual else ()
        yield Score(photo.name, name, qf, *faithful, estimate, *natural)


def table(scores: list[Score]) -> str:
    """Mean scores as a Markdown table, with the gain over the JPEG and the worst photo's gain."""
    plain = {(s.photo, s.qf): s.psnr for s in scores if s.model == "jpeg"}
    titles = ("model", "QF", "PSNR", "SSIM", "PSNR-B", "LPIPS", "DISTS", "gain dB", "worst", "QF error")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for model in dict.fromkeys(s.model for s in scores):
        for qf in sorted({s.qf for s in scores}):
            rows = [s for s in scores if s.model == model and s.qf == qf]
            gains = [s.psnr - plain[s.photo, qf] for s in rows]
            means = [np.mean([getattr(s, name) for s in rows]) for name in ("psnr", "ssim", "psnr_b", "lpips", "dists")]
            error = np.mean([abs(s.estimated_qf - qf) for s in rows])
            lines.append(
                f"| {model} | {qf} | {means[0]:.2f} | {means[1]:.4f} | {means[2]:.2f} "
                f"| {means[3]:.4f} | {means[4]:.4f} | {np.mean(gains):+.2f} | {min(gains):+.2f} | {error:.1f} |"
            )
    return "\n".join(lines)


@click.command()
@click.option(
    "--photos", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Lossless photos."
)
@click.option(
    "--model", "models", multiple=True, default=("compact",), show_default=True, help="Name or folder of a model."
)
@click.option(
    "--qf", "qfs", multiple=True, type=click.IntRange(1, 100), default=(5, 10, 20, 40, 60, 80, 90), show_default=True
)
@click.option("--sampling", type=click.Choice(list(SUBSAMPLING)), default="4:2:0", show_default=True)
@click.option("--constrain/--no-constrain", default=True, show_default=True)
@click.option("--every", default=1, show_default=True, help="Use every N-th photo only.")
@click.option("--resave", type=click.IntRange(1, 100), help="Save each JPEG again at this QF before it is restored.")
@click.option(
    "--shift", type=click.IntRange(0, 7), default=0, show_default=True, help="Pixels cut off before --resave."
)
@click.option(
    "--networks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of backbones for LPIPS and DISTS, which are left out without it (see codiff_batch/perceptual.py).",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all single scores here."
)
def main(
    photos: Path,
    models: tuple[str, ...],
    qfs: tuple[int, ...],
    sampling: str,
    constrain: bool,
    every: int,
    resave: int | None,
    shift: int,
    networks: Path | None,
    json_file: Path | None,
) -> None:
    """Measure models on a folder of lossless photos."""
    restorers = [Restorer.load(model) for model in models]
    perceptual = Perceptual(networks) if networks else None
    again = Resave(resave, shift) if resave else None
    paths = find_lossless(photos)
    scores = [
        score
        for path in paths[::every]
        for qf in qfs
        for score in measure(path, qf, sampling, restorers, constrain=constrain, perceptual=perceptual, resave=again)
    ]
    click.echo(table(scores))
    if json_file:
        json_file.write_text(json.dumps([asdict(score) for score in scores], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
