"""``codiff-batch inspect``: what a photo is, without restoring it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codiff_batch.cli.parameters import (
    device_option,
    none_found,
    sources,
)
from codiff_batch.cli.processing_options import batch_option
from codiff_batch.cli.remedies import explained
from codiff_batch.errors import PhotoError
from codiff_batch.exit_codes import ExitCode
from codiff_batch.settings import Judging, Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from codiff_batch.batch.scan import Found
    from codiff_batch.engine import Embedding, Restorer
    from codiff_batch.jpeg.header import Header
    from codiff_batch.jpeg.history import History
    from codiff_batch.jpeg.metadata import MetadataSummary
    from codiff_batch.rasters.raster import RasterHeader

READERS = 4

LOOKS = 16
"""Photos that CaVE sees at once."""


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

    header: Header | RasterHeader
    metadata: MetadataSummary
    crops: Sequence[NDArray[np.uint8]] = ()
    history: History | None = None
    left_alone: str = ""
    """Why it is not restored, whatever its quality."""


@click.command("inspect")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--look", is_flag=True, help="Have CaVE look at every photo, even where the header decides.")
@batch_option("min_qf")
@batch_option("model")
@device_option
@batch_option("max_pixels")
@batch_option("max_bytes")
@batch_option("types")
@batch_option("models_dir")
@sources
@click.pass_context
def inspect_command(
    ctx: click.Context,
    paths: tuple[Path, ...],
    names: tuple[Path, ...],
    exclude: tuple[str, ...],
    as_json: bool,
    look: bool,
    min_qf: float,
    model: str,
    device: str,
    max_pixels: int,
    max_bytes: int,
    types: tuple[str, ...],
    models_dir: Path | None,
) -> None:
    """Print size, sampling, quality, verdict and metadata of photos.

    "QF" is the quality factor that fits the file's tables ("~" where they are not the IJG's own); "pixels" is CaVE's
    estimate, made where the header alone does not decide.
    """
    from codiff_batch.batch.scan import scan

    found = list(scan(paths, names=names, patterns=exclude, types=types))
    if not found:
        click.echo(none_found(types), err=True)
    inspector = _Inspector(min_qf, max_pixels, max_bytes, types, look, model, device, models_dir)
    refused = False
    show = _print_json if as_json else _print_table
    for row in show([str(photo.path) for photo in found], inspector.rows(found)):
        refused |= row.verdict == "refuse"
    if refused:
        ctx.exit(ExitCode.SOME_FAILED)


class _Inspector:
    """Reads files in threads, and has CaVE look at those whose header does not decide, several at a time."""

    def __init__(
        self,
        min_qf: float,
        max_pixels: int,
        max_bytes: int,
        types: tuple[str, ...],
        look: bool,
        model: str,
        device: str,
        models_dir: Path | None,
    ) -> None:
        self._judging, self._look_at_all = Judging(min_qf), look
        self._max_pixels, self._max_bytes = max_pixels, max_bytes
        self._types = types
        self._model, self._device, self._models_dir = model, device, models_dir

    def rows(self, photos: Sequence[Found]) -> Iterator[Inspection]:
        """One row per photo, in their order."""
        with ThreadPoolExecutor(READERS) as readers:
            for start in range(0, len(photos), LOOKS):
                some = photos[start : start + LOOKS]
                read = list(readers.map(self._read, some))
                seen = [photo for photo in read if isinstance(photo, _Read) and photo.crops]
                embeddings = self._restorer.embed_crops([photo.crops for photo in seen]) if seen else []
                by_photo = {id(photo): embedding for photo, embedding in zip(seen, embeddings, strict=True)}
                for named, photo in zip(some, read, strict=True):
                    if isinstance(photo, PhotoError):
                        yield Inspection(str(named.path), reason=" ".join(explained(photo).split()))
                    else:
                        yield self._row(named.path, photo, by_photo.get(id(photo)))

    @cached_property
    def _restorer(self) -> Restorer:
        from codiff_batch.engine import Restorer

        return Restorer.load(self._model, self._device, models_dir=self._models_dir)

    def _read(self, found: Found) -> _Read | PhotoError:
        from codiff_batch.batch.process import why_left_alone
        from codiff_batch.engine.photo import Decoded, judged_unseen
        from codiff_batch.files.reading import read_whole
        from codiff_batch.formats import SAME, Order, refuse
        from codiff_batch.rasters.source import open_source

        if found.error is not None:
            return PhotoError(found.error)
        try:
            data = read_whole(found.path, max_bytes=self._max_bytes).data
            photo = open_source(data, self._types, path=found.path, max_pixels=self._max_pixels)
            metadata = photo.metadata()
            left_alone, _ = why_left_alone(metadata, again=False, include_signed=False) or ("", None)
            refuse(photo, SAME, Order("codiff-batch inspect", drop_signature=True))
            decided = left_alone or judged_unseen(photo.header.qf, Settings(), self._judging)
            if decided and not self._look_at_all:
                return _Read(photo.header, metadata, left_alone=left_alone)
            decoded = Decoded.of(photo)
            return _Read(photo.header, metadata, decoded.crops(Settings()), decoded.history, left_alone)
        except PhotoError as error:
            return error
        except Exception as error:
            # The wall: one photo that triggers a bug must not keep the others from being reported.
            return PhotoError(f"unexpected {type(error).__name__}: {error}")

    def _row(self, path: Path, photo: _Read, seen: Embedding | None) -> Inspection:
        from codiff_batch.engine.judge import Action
        from codiff_batch.engine.photo import judged_by

        header, estimated_qf = photo.header, None if seen is None else seen.qf
        action, reason = Action.SKIP, photo.left_alone
        if not photo.left_alone:
            verdict = judged_by(header.qf, seen, lambda: photo.history, Settings(), self._judging)
            action, reason = verdict.action, verdict.reason
        return Inspection(
            path=str(path),
            width=header.width,
            height=header.height,
            process=header.process,
            sampling=header.sampling,
            header_qf=header.qf,
            header_misfit=None if header.qf is None else round(header.qf_misfit, 4),
            estimated_qf=None if estimated_qf is None else round(estimated_qf, 1),
            verdict=action.value,
            reason=reason,
            metadata=photo.metadata.kinds(),
        )


def _print_json(paths: Sequence[str], rows: Iterable[Inspection]) -> Iterator[Inspection]:
    """Print one JSON list, each row as soon as it is there, and pass each on."""
    click.echo("[", nl=False)
    before = "\n"
    for row in rows:
        click.echo(before + textwrap.indent(json.dumps(asdict(row), indent=2), "  "), nl=False)
        before = ",\n"
        yield row
    click.echo("\n]" if paths else "]")


def _print_table(paths: Sequence[str], rows: Iterable[Inspection]) -> Iterator[Inspection]:
    """Print each row as soon as it is there, and pass it on."""
    from codiff_batch.files.text import printable

    # Only the width of the names is known in advance; the other columns have usual widths.
    widths = (max((len(printable(path)) for path in paths), default=4), 11, 8, 4, 6, 7)

    def show(*cells: str) -> None:
        click.echo("  ".join([*(cell.ljust(w) for cell, w in zip(cells, widths, strict=False)), cells[-1]]).rstrip())

    if paths:
        show("file", "size", "sampling", "QF", "pixels", "verdict", "metadata")
    for row in rows:
        name = printable(row.path)
        if row.verdict == "refuse":
            show(name, "", "", "", "", "refuse", printable(row.reason))
        else:
            size = f"{row.width}x{row.height}"
            pixels = "-" if row.estimated_qf is None else f"{row.estimated_qf:.0f}"
            header = "-" if row.header_qf is None else f"{'~' if row.header_misfit else ''}{row.header_qf:.0f}"
            metadata = printable(", ".join(row.metadata)) or "-"
            show(name, size, row.sampling or "", header, pixels, row.verdict, metadata)
        yield row
