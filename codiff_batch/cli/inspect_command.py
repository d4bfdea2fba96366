"""``codiff-batch inspect``: what a photo is, without restoring it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
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
    import numpy as np
    from numpy.typing import NDArray

    from codiff_batch.engine import Embedding, Restorer
    from codiff_batch.jpeg.header import Header
    from codiff_batch.jpeg.history import History
    from codiff_batch.jpeg.metadata import MetadataSummary

READERS = 4

LOOKS = 16
"""Photos that CaVE sees at a time."""


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


@dataclass(frozen=True, eq=False)
class _Read:
    """What is kept of a file: not its bytes."""

    header: Header
    metadata: MetadataSummary
    crops: Sequence[NDArray[np.uint8]] = ()
    history: History | None = None


@click.command("inspect")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--look", is_flag=True, help="Let CaVE see every photo, also those whose header decides.")
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
    look: bool,
    min_qf: float,
    model: str,
    device: str,
    max_megapixels: float,
    models_dir: Path | None,
) -> None:
    """Print size, sampling, quality, verdict and metadata of photos.

    "QF" is the quality factor by the file's tables ("~" where they are not the IJG's own), "pixels" is CaVE's estimate,
    made where the header alone does not decide.
    """
    from codiff_batch.batch.scan import scan

    found = [photo.path for photo in scan(paths)]
    if not found:
        click.echo("no JPEG files found", err=True)
        return
    inspector = _Inspector(min_qf, round(max_megapixels * 1e6), look, model, device, models_dir)
    rows = list(inspector.rows(found))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print_table(rows)
    if any(row.verdict == "refuse" for row in rows):
        ctx.exit(ExitCode.SOME_FAILED)


class _Inspector:
    """Reads files in threads, and lets CaVE see those whose header does not decide, several at a time."""

    def __init__(
        self, min_qf: float, max_pixels: int, look: bool, model: str, device: str, models_dir: Path | None
    ) -> None:
        self._min_qf, self._max_pixels, self._look_at_all = min_qf, max_pixels, look
        self._model, self._device, self._models_dir = model, device, models_dir

    def rows(self, paths: Sequence[Path]) -> Iterator[Inspection]:
        """One row a path, in their order."""
        with ThreadPoolExecutor(READERS) as readers:
            for start in range(0, len(paths), LOOKS):
                some = paths[start : start + LOOKS]
                read = list(readers.map(self._read, some))
                seen = [photo for photo in read if isinstance(photo, _Read) and photo.crops]
                embeddings = self._restorer.embed_crops([photo.crops for photo in seen]) if seen else []
                by_photo = {id(photo): embedding for photo, embedding in zip(seen, embeddings, strict=True)}
                for path, photo in zip(some, read, strict=True):
                    if isinstance(photo, PhotoError):
                        yield Inspection(str(path), reason=" ".join(str(photo).split()))
                    else:
                        yield self._row(path, photo, by_photo.get(id(photo)))

    @cached_property
    def _restorer(self) -> Restorer:
        from codiff_batch.engine import Restorer

        return Restorer.load(self._model, self._device, models_dir=self._models_dir)

    def _read(self, path: Path) -> _Read | PhotoError:
        from codiff_batch.engine.crops import textured_crops
        from codiff_batch.engine.judge import header_decides
        from codiff_batch.formats import SAME, Order, refuse
        from codiff_batch.jpeg import JpegPhoto
        from codiff_batch.jpeg.history import look_back

        try:
            photo = JpegPhoto.open(path, max_pixels=self._max_pixels)
            refuse(photo, SAME, Order("codiff-batch inspect", drop_signature=True))
            if header_decides(photo.header.qf, self._min_qf) and not self._look_at_all:
                return _Read(photo.header, photo.metadata())
            pixels = photo.pixels()
            crops = [crop.copy() for crop in textured_crops(pixels)]
            return _Read(photo.header, photo.metadata(), crops, look_back(crops, pixels, photo.header.tables))
        except PhotoError as error:
            return error

    def _row(self, path: Path, photo: _Read, seen: Embedding | None) -> Inspection:
        from codiff_batch.engine import judge

        header, estimated_qf = photo.header, None if seen is None else seen.qf
        spread = 0.0 if seen is None else seen.spread
        verdict = judge(header.qf, estimated_qf, self._min_qf, photo.history, spread=spread)
        return Inspection(
            path=str(path),
            width=header.width,
            height=header.height,
            process=header.process,
            sampling=header.sampling,
            header_qf=header.qf,
            header_misfit=round(header.qf_misfit, 4),
            estimated_qf=None if estimated_qf is None else round(estimated_qf, 1),
            verdict=verdict.action.value,
            reason=verdict.reason,
            metadata=photo.metadata.kinds(),
        )


def _print_table(rows: Sequence[Inspection]) -> None:
    from codiff_batch.files.text import printable

    titles = ("file", "size", "sampling", "QF", "pixels", "verdict", "metadata")
    table = [titles]
    for row in rows:
        name = printable(row.path)
        if row.verdict == "refuse":
            table.append((name, "", "", "", "", "refuse", row.reason))
            continue
        size = f"{row.width}x{row.height}"
        pixels = "-" if row.estimated_qf is None else f"{row.estimated_qf:.0f}"
        header = f"{'~' if row.header_misfit else ''}{row.header_qf:.0f}"
        metadata = ", ".join(row.metadata) or "-"
        table.append((name, size, row.sampling or "", header, pixels, row.verdict, metadata))
    widths = [max(len(line[column]) for line in table) for column in range(len(titles) - 1)]
    for line in table:
        click.echo("  ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[-1]]).rstrip())
