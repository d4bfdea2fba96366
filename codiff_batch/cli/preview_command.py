"""``codiff-batch preview``: a page to choose settings on before anything is restored."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codiff_batch.batch.options import BatchOptions
from codiff_batch.cli.parameters import (
    device_option,
    list_again,
    none_found,
    output_file_option,
    sources,
)
from codiff_batch.cli.processing_options import batch_option
from codiff_batch.exit_codes import ExitCode
from codiff_batch.settings import Floats, Judging

if TYPE_CHECKING:
    from codiff_batch.preview.page import Preview
    from codiff_batch.preview.settings import Setting


FEW = 100
"""Up to this many photos, CaVE looks at all of them by default: then every count on the page is certain."""

_BAR = "choosing and restoring {n_fmt}/{total_fmt} {bar} {elapsed}<{remaining}"


class _List(click.ParamType[tuple[str, ...]]):
    """Values separated by commas, each once."""

    name = "list"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        values = [part.strip() for part in str(value).split(",")]
        if not all(values):
            self.fail(f"{value!r} is not a comma-separated list", param, ctx)
        return tuple(dict.fromkeys(values))


class _Shares(_List):
    """Numbers from 0 to 1, separated by commas."""

    def convert(  # type: ignore[override]
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            shares = [float(part) for part in super().convert(value, param, ctx)]
        except ValueError:
            self.fail(f"{value!r} is not a comma-separated list of numbers", param, ctx)
        if not all(0 <= share <= 1 for share in shares):
            self.fail(f"{value}: each must be between 0 and 1", param, ctx)
        return tuple(shares)


@click.command("preview")
@batch_option("min_qf")
@output_file_option("preview.html", "The page to write, complete in one file.")
@click.option(
    "--photos",
    type=click.IntRange(1, 100),
    default=12,
    show_default=True,
    metavar="N",
    help="How many representative photos to show.",
)
@click.option(
    "--model",
    "models",
    type=_List(),
    default=(),
    metavar="NAME,...",
    help="Models to compare.  [default: compact]",
)
@click.option(
    "--texture",
    "textures",
    type=_Shares(),
    default=(),
    metavar="0..1,...",
    help="Textures to compare.  [default: none, the model's own, all]",
)
@click.option(
    "--strength",
    "strengths",
    type=_Shares(),
    default=(1.0,),
    metavar="0..1,...",
    help="Strengths to compare.  [default: 1]",
)
@click.option(
    "--look/--no-look",
    default=None,
    help=f"Have CaVE look at every photo, even where the header decides.  [default: for up to {FEW} photos]",
)
@device_option
@batch_option("precision")
@batch_option("types")
@batch_option("again")
@batch_option("include_signed")
@batch_option("max_pixels")
@batch_option("max_bytes")
@batch_option("models_dir")
@click.option("-q", "--quiet", is_flag=True, help="Print failures only: no progress, no summary.")
@sources
@click.pass_context
def preview_command(
    ctx: click.Context,
    paths: tuple[Path, ...],
    names: tuple[Path, ...],
    exclude: tuple[str, ...],
    min_qf: float,
    output: Path,
    photos: int,
    models: tuple[str, ...],
    textures: tuple[float, ...],
    strengths: tuple[float, ...],
    look: bool | None,
    device: str,
    precision: Floats,
    types: tuple[str, ...],
    again: bool,
    include_signed: bool,
    max_pixels: int,
    max_bytes: int,
    models_dir: Path | None,
    quiet: bool,
) -> None:
    """Make a page that shows your photos under different settings, to choose from.

    All photos are judged as with --dry-run; parts of some representative ones are restored under every setting.
    On the page, move the line for --min-qf, compare, and copy the command for the settings you choose.
    """
    from codiff_batch.pages.files import check_page_path
    from codiff_batch.preview.page import write_preview
    from codiff_batch.preview.settings import settings

    check_page_path("--output", output)
    chosen = settings(models, textures, strengths, models_dir)
    options = BatchOptions(
        paths,
        names,
        exclude,
        judging=Judging(min_qf),
        model=chosen[0].model,
        models_dir=models_dir,
        devices=(device,),
        precision=precision,
        types=types,
        again=again,
        include_signed=include_signed,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        dry_run=True,
    )
    options.check()
    made = _make(options, chosen, photos, look=look, quiet=quiet)
    if not made.photos:
        click.echo(none_found(types), err=True)
        return
    write_preview(output, replace(made, listed=list_again(ctx)))
    failed = sum(photo.outcome.outcome == "failed" for photo in made.photos)
    if not quiet:
        click.echo(_summary(output, made, failed), err=True)
    if failed:
        ctx.exit(ExitCode.SOME_FAILED)


def _make(options: BatchOptions, chosen: Sequence[Setting], count: int, *, look: bool | None, quiet: bool) -> Preview:
    from tqdm import tqdm

    from codiff_batch.batch.pipeline import LazyRestorer
    from codiff_batch.batch.plan import plan
    from codiff_batch.cli.progress import Progress
    from codiff_batch.preview.choose import candidates, choose
    from codiff_batch.preview.judging import judge_all, look_at
    from codiff_batch.preview.page import Preview
    from codiff_batch.preview.work import restore_samples, study, take_samples

    tasks = plan(options)
    restorer = LazyRestorer(options)
    started = time.monotonic()
    photos = []
    with Progress(verbose=False, quiet=quiet) as progress:
        progress.planned(len(tasks))
        all_of_them = len(tasks) <= FEW if look is None else look
        for photo in judge_all(options, tasks, restorer, progress.stage, look=all_of_them):
            photos.append(photo)
            progress.finished(photo.outcome)
    seconds = time.monotonic() - started
    order = {task.source: place for place, task in enumerate(tasks)}
    photos.sort(key=lambda photo: order[photo.outcome.source])
    numbers = candidates(photos, options.judging.min_qf, count)
    steps = len(numbers) + len(chosen) * min(count, len(numbers))
    hidden = quiet or not steps or not sys.stderr.isatty()
    with tqdm(total=steps, disable=hidden, dynamic_ncols=True, bar_format=_BAR) as bar:
        studied = study(photos, numbers, options, bar.update)
        shown = choose(studied, photos, options.judging.min_qf, count)
        unseen = [one.number for one in shown if not photos[one.number].is_certain]
        for number, photo in zip(unseen, look_at([photos[n].outcome for n in unseen], options, restorer), strict=True):
            photos[number] = photo
        samples = take_samples(shown, photos, options)
        paces = restore_samples(samples, chosen, options, bar.update) if samples else {}
    return Preview(options, photos, seconds, samples, paces)


def _summary(page: Path, made: Preview, failed: int) -> str:
    from codiff_batch.files.text import printable

    would = sum(photo.is_below(made.options.judging.min_qf) for photo in made.photos)
    told = f"{len(made.photos)} photos judged, {would} would be restored, {failed} failed"
    return f"{printable(str(page))}: {told}; {len(made.samples)} shown under {len(made.paces)} settings"
