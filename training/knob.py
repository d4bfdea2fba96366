"""Costs and gains of each amount of a model's texture on held-out photos, to choose the default.

Run as ``python -m training.knob --photos TRAINING_PHOTOS --model FOLDER --networks NETWORKS``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch

from codiff_batch.engine import Restorer
from codiff_batch.engine.settling import settle
from codiff_batch.metrics import psnr
from codiff_batch.perceptual import DISTS, LPIPS, as_tensor
from training.evaluate import compress
from training.photos import Pixels, find_photos, load_photo

AMOUNTS = (0.0, 0.25, 0.5, 0.6, 0.7, 0.75, 1.0)


@dataclass(frozen=True)
class Reading:
    """One photo at one QF with one amount of texture."""

    photo: str
    qf: int
    amount: float | None
    """0..1, or None for the JPEG itself."""
    gain: float
    """PSNR over the JPEG's, in dB."""
    lpips: float = float("nan")
    dists: float = float("nan")


class Eye:
    """LPIPS and DISTS of several pictures of one original, in its middle only.

    Args:
        networks: folder of their backbones.
        side: of the middle, in pixels.
    """

    def __init__(self, networks: Path, side: int = 256) -> None:
        self._metrics, self._side = (LPIPS(networks), DISTS(networks)), side

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Pixels], clean: Pixels) -> list[tuple[float, float]]:
        """Both distances of each picture (H, W, 3)."""
        seen = torch.cat([as_tensor(self._middle(picture)) for picture in pictures])
        original = as_tensor(self._middle(clean))
        lpips, dists = (metric(seen, original).tolist() for metric in self._metrics)
        return list(zip(lpips, dists, strict=True))

    def _middle(self, pixels: Pixels) -> Pixels:
        top, left = (max(0, (side - self._side) // 2) for side in pixels.shape[:2])
        return np.ascontiguousarray(pixels[top : top + self._side, left : left + self._side])


def read(name: str, clean: Pixels, qf: int, restorer: Restorer, eye: Eye | None) -> Iterator[Reading]:
    """Measure a photo's JPEG (4:2:0) and its restorations with each of :data:`AMOUNTS`."""
    jpeg = compress(clean, qf, "4:2:0")
    pixels = jpeg.pixels()
    seen = restorer.embed(pixels)
    plain, full = (
        restorer.restore_levels(pixels, texture=amount, tables=jpeg.header.tables, embedding=seen)
        for amount in (0.0, 1.0)
    )
    pictures = [pixels, *(settle(plain + amount * (full - plain), jpeg, seen.qf) for amount in AMOUNTS)]
    distances = eye(pictures, clean) if eye else [(float("nan"),) * 2] * len(pictures)
    before = psnr(pixels, clean)
    for amount, picture, (lpips, dists) in zip((None, *AMOUNTS), pictures, distances, strict=True):
        yield Reading(name, qf, amount, psnr(picture, clean) - before, lpips, dists)


def table(readings: Sequence[Reading]) -> str:
    """Markdown: for each QF and amount the mean gain, the worst one, how many photos lose, LPIPS and DISTS."""
    lines = ["| QF | texture | gain dB | worst | losses | LPIPS | DISTS |", "|---|---|---|---|---|---|---|"]
    for qf in sorted({reading.qf for reading in readings}):
        for amount in (None, *AMOUNTS):
            rows = [reading for reading in readings if (reading.qf, reading.amount) == (qf, amount)]
            gains = np.array([row.gain for row in rows])
            looked_at = [row for row in rows if not np.isnan(row.lpips)]
            distances = np.array([(row.lpips, row.dists) for row in looked_at])
            seen = [f"{distance:.3f}" for distance in distances.mean(axis=0)] if looked_at else ["", ""]
            lines.append(
                f"| {qf} | {'JPEG' if amount is None else amount} | {gains.mean():+.2f} | {gains.min():+.2f} "
                f"| {(gains < 0).sum()} of {len(rows)} | {' | '.join(seen)} |"
            )
    return "\n".join(lines)


_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--photos", required=True, type=_folder, help="Training photos; the held-out ones are used.")
@click.option("--model", required=True, help="Name or folder of a model with texture.")
@click.option(
    "--networks", type=_folder, help="Folder of the backbones of LPIPS and DISTS, which are left out without it."
)
@click.option("--qf", "qfs", multiple=True, type=click.IntRange(1, 100), default=(10, 20, 40, 80), show_default=True)
@click.option("--every", default=1, show_default=True, help="Use every N-th photo only.")
@click.option("--look-at-every", default=4, show_default=True, help="Of those, measure LPIPS and DISTS on every N-th.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the individual readings to this file.",
)
def main(
    photos: Path,
    model: str,
    networks: Path | None,
    qfs: tuple[int, ...],
    every: int,
    look_at_every: int,
    json_file: Path | None,
) -> None:
    """Measure costs and gains of each amount of a model's texture."""
    restorer, eye = Restorer.load(model), Eye(networks) if networks else None
    readings = [
        reading
        for index, path in enumerate(find_photos(photos, held_out=True)[::every])
        for qf in qfs
        for reading in read(path.stem, load_photo(path), qf, restorer, None if index % look_at_every else eye)
    ]
    click.echo(table(readings))
    if json_file:
        json_file.write_text(json.dumps([asdict(reading) for reading in readings], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
