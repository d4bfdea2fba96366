"""``codiff-batch inspect``: what a photo is, without restoring it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codiff_batch.cli.exit_codes import ExitCode
from codiff_batch.cli.parameters import (
    device_option,
    max_megapixels_option,
    min_qf_option,
    model_option,
    models_dir_option,
    paths_argument,
)
from codiff_batch.errors import PhotoError

if TYPE_CHECKING:
    from codiff_batch.engine import Restorer


@dataclass(frozen=True)
class Inspection:
    """One photo's row."""

    path: str
    width: int | None = None
    height: int | None = None
    process: str | None = None
    sampling: str | None = None
    header_qf: float | None = None
    header_misfit: float | None = None
    estimated_qf: float | None = None
    verdict: str = "refuse"
    reason: str = ""
    metadata: Sequence[str] = ()


@click.command("inspect")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@min_qf_option
@model_option
@device_option
@max_megapixels_option
@models_dir_option
@paths_argument
@click.pass_context
def inspect_command(
    ctx: click.Context,
    paths: tuple[Path, ...],
    as_json: bool,
    min_qf: float,
    model: str,
    device: str,
    max_megapixels: float,
    models_dir: Path | None,
) -> None:
    """Print size, sampling, quality, verdict and metadata of photos.

    "QF" is the quality factor by the file's tables ("~" where they are not the IJG's own), "pixels" is CaVE's estimate.
    """
    from codiff_batch.batch.scan import scan
    from codiff_batch.engine import Restorer

    found = [photo.path for photo in scan(paths)]
    if not found:
        click.echo("no JPEG files found", err=True)
        return
    restorer = Restorer.load(model, device, models_dir=models_dir)
    rows = [_inspect(path, restorer, min_qf, round(max_megapixels * 1e6)) for path in found]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print_table(rows)
    if any(row.verdict == "refuse" for row in rows):
        ctx.exit(ExitCode.SOME_FAILED)


def _inspect(path: Path, restorer: Restorer, min_qf: float, max_pixels: int) -> Inspection:
    from codiff_batch.engine import judge
    from codiff_batch.jpeg import JpegPhoto

    try:
        photo = JpegPhoto.open(path, max_pixels=max_pixels)
        verdict = judge(photo.header.qf, restorer.estimate_qf(photo.pixels()), min_qf)
    except PhotoError as error:
        return Inspection(str(path), reason=" ".join(str(error).split()))
    header = photo.header
    return Inspection(
        path=str(path),
        width=header.width,
        height=header.height,
        process=header.process,
        sampling=header.sampling,
        header_qf=header.qf,
        header_misfit=round(header.qf_misfit, 4),
        estimated_qf=round(verdict.estimated_qf or 0, 1),
        verdict=verdict.action.value,
        reason=verdict.reason,
        metadata=photo.metadata().kinds(),
    )


def _print_table(rows: Sequence[Inspection]) -> None:
    from codiff_batch.batch.summary import printable

    titles = ("file", "size", "sampling", "QF", "pixels", "verdict", "metadata")
    table = [titles]
    for row in rows:
        name = printable(row.path)
        if row.verdict == "refuse":
            table.append((name, "", "", "", "", "refuse", row.reason))
            continue
        size, pixels = f"{row.width}x{row.height}", f"{row.estimated_qf:.0f}"
        header = f"{'~' if row.header_misfit else ''}{row.header_qf:.0f}"
        metadata = ", ".join(row.metadata) or "-"
        table.append((name, size, row.sampling or "", header, pixels, row.verdict, metadata))
    widths = [max(len(line[column]) for line in table) for column in range(len(titles) - 1)]
    for line in table:
        click.echo("  ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[-1]]).rstrip())
