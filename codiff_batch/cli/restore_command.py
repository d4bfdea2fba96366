"""Restoring photos: the default command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from codiff_batch.batch.options import BatchOptions
from codiff_batch.cli.exit_codes import ExitCode
from codiff_batch.cli.parameters import ShardType, paths_argument
from codiff_batch.cli.processing_options import processing_options


@click.command("restore", hidden=True)
@processing_options
@click.option("--dry-run", is_flag=True, help="Judge everything, write nothing (but the report).")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write one record a photo to a .json or .csv file, or a page to look at to an .html file.",
)
@click.option(
    "--shard",
    type=ShardType(),
    metavar="I/N|auto",
    help="Work on part I of N only; auto reads SLURM's variables.",
)
@click.option("--cluster", metavar="ADDRESS", help="Share the work on a Ray cluster ('auto': the running one).")
@paths_argument
@click.pass_context
def restore_command(
    ctx: click.Context, /, report: Path | None, max_megapixels: float, verbose: bool, quiet: bool, **values: Any
) -> None:
    """Restore photos (what the program does when no command is named)."""
    from codiff_batch.batch.plan import plan
    from codiff_batch.batch.report import check_report_path, write_report
    from codiff_batch.batch.run import run_batch
    from codiff_batch.batch.summary import summarize
    from codiff_batch.cli.progress import Progress
    from codiff_batch.cli.signals import GentleStop
    from codiff_batch.models.catalogue import find

    options = BatchOptions(max_pixels=round(max_megapixels * 1e6), **values)
    options.check()
    if report is not None:
        check_report_path(report)
    find(options.model, options.models_dir)
    tasks = plan(options)
    started = time.monotonic()
    order = {task.source: place for place, task in enumerate(tasks)}
    outcomes = []
    with GentleStop() as stop, Progress(len(tasks), verbose=verbose, quiet=quiet) as progress:
        for outcome in run_batch(options, tasks, stage=progress.stage, stop=stop.event):
            outcomes.append(outcome)
            progress.finished(outcome)
    outcomes.sort(key=lambda outcome: order[outcome.source])
    if report is not None and report.suffix.lower() == ".html":
        from codiff_batch.pages.report_page import Row, write_page

        backups = {task.source: task.backup for task in tasks}
        write_page(report, [Row.of(outcome, backups[outcome.source]) for outcome in outcomes])
    elif report is not None:
        write_report(report, outcomes)
    if not quiet:
        if not tasks:
            click.echo("no JPEG files found; folders are searched for .jpg, .jpeg, .jpe and .jfif", err=True)
        for line in summarize(outcomes, options, time.monotonic() - started) if tasks else []:
            click.echo(line, err=True)
    if stop.exit_code:
        click.echo(f"interrupted: {len(tasks) - len(outcomes)} photos were left", err=True)
        ctx.exit(stop.exit_code)
    if any(outcome.outcome == "failed" for outcome in outcomes):
        ctx.exit(ExitCode.SOME_FAILED)
