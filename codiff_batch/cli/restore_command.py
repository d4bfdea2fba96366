"""Restoring photos: the default command."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codiff_batch.batch.options import BatchOptions
from codiff_batch.cli.parameters import NamedPath, none_found, sources
from codiff_batch.cli.processing_options import processing_options
from codiff_batch.exit_codes import ExitCode

if TYPE_CHECKING:
    from codiff_batch.batch.outcome import Outcome
    from codiff_batch.batch.plan import Task


@click.command("restore", hidden=True)
@processing_options(once=True)
@sources
@click.option(
    "--report",
    type=NamedPath(readable=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Write one record per photo as .json or .csv ('-': JSON to stdout), or a page as .html.",
)
@click.pass_context
def restore_command(ctx: click.Context, options: BatchOptions, report: Path | None, verbose: bool, quiet: bool) -> None:
    """Restore photos (the default command)."""
    from codiff_batch.batch.run import run
    from codiff_batch.cli.progress import Progress
    from codiff_batch.cli.reports import check_report, save_report
    from codiff_batch.cli.signals import GentleStop
    from codiff_batch.cli.summary import summarize

    if report is not None:
        options.check()  # Before the report's folder is made.
        check_report(report)
    started = time.monotonic()
    tasks: list[Task] = []
    outcomes: list[Outcome] = []
    code = ExitCode.OK
    with GentleStop() as stop, Progress(verbose=verbose, quiet=quiet) as progress:

        def planned(all_tasks: Sequence[Task]) -> None:
            tasks.extend(all_tasks)
            progress.planned(len(tasks))

        try:
            for outcome in run(options, planned=planned, stage=progress.stage, stop=stop.event):
                outcomes.append(outcome)
                progress.finished(outcome)
        finally:
            order = {task.source: place for place, task in enumerate(tasks)}
            outcomes.sort(key=lambda outcome: order[outcome.source])
            # A run that an error ends reports what was done; one that did not start keeps the earlier report.
            if report is not None and (outcomes or sys.exception() is None):
                code = save_report(report, outcomes, {task.source: task.backup for task in tasks})
    if not quiet:
        if not tasks:
            click.echo(none_found(options.types), err=True)
        for line in summarize(outcomes, options, time.monotonic() - started) if tasks else []:
            click.echo(line, err=True)
    if stop.exit_code:
        click.echo(f"interrupted: {len(tasks) - len(outcomes)} photos not done", err=True)
        ctx.exit(stop.exit_code)
    if any(outcome.outcome == "failed" for outcome in outcomes):
        ctx.exit(ExitCode.SOME_FAILED)
    ctx.exit(code)
