"""``codiff-batch status``, ``report`` and ``undo``: what the journal knows."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from codiff_batch.cli.parameters import output_file_option
from codiff_batch.exit_codes import ExitCode

_folder = click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every failure.")
@_folder
def status_command(folder: Path, as_json: bool) -> None:
    """Say what was done, skipped and failed, and what is left.

    DIR is an output folder, the backup folder of --in-place, or the photo folder beside a default output folder.
    """
    from codiff_batch.batch.status import read_status
    from codiff_batch.batch.summary import SHOWN_FAILURES
    from codiff_batch.printable import printable

    status = read_status(folder)
    if as_json:
        click.echo(json.dumps(asdict(status), indent=2, default=str))
        return
    done, skipped = status.counts.get("restored", 0), status.counts.get("skipped", 0)
    left = "" if status.left is None else f", {status.left} left"
    click.echo(f"{done} restored, {skipped} skipped, {len(status.failures)} failed{left}")
    if undone := status.counts.get("undone"):
        click.echo(f"  {undone} undone")
    for kind, count in sorted(status.reasons.items(), key=lambda item: -item[1]):
        click.echo(f"  skipped {count}: {kind}")
    for entry in status.failures[:SHOWN_FAILURES]:
        click.echo(f"  failed: {printable(str(entry.source))}: {printable(entry.reason)}")
    if len(status.failures) > SHOWN_FAILURES:
        click.echo(f"  ... and {len(status.failures) - SHOWN_FAILURES} more (see --json)")
    for run in status.runs:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started))
        state = "ended" if run.ended else f"not ended (process {run.pid} on {run.host})"
        click.echo(f"latest run: {began}, {run.model}, {state}")
    click.echo(
        f"rate: {status.photos_per_second:.2f} photos/s, {status.megapixels_per_second:.2f} megapixels/s restored"
    )
    if status.left:
        click.echo(f"about {status.left / status.photos_per_second / 60:.0f} min to go")


@click.command("report")
@output_file_option("report.html", "The page; its thumbnails go into a folder beside it.")
@_folder
def report_command(folder: Path, output: Path) -> None:
    """Make a page of what became of every photo, from the journal.

    DIR is an output folder, the backup folder of --in-place, or the photo folder beside a default output folder.
    """
    from codiff_batch.batch.report import check_report_path
    from codiff_batch.errors import OptionsConflict
    from codiff_batch.pages.report_page import rows_of_journals, write_page

    if output.suffix.lower() != ".html":
        raise OptionsConflict(f"--output {output.name}: the name must end in .html")
    check_report_path(output)
    rows = rows_of_journals(folder)
    write_page(output, rows)
    click.echo(f"{output}: {len(rows)} photos", err=True)


@click.command("undo")
@_folder
@click.pass_context
def undo_command(ctx: click.Context, folder: Path) -> None:
    """Put every original that --in-place replaced back from the backup.

    DIR is the backup folder. Photos that were changed since are left alone.
    """
    from codiff_batch.batch.undo import undo
    from codiff_batch.printable import printable

    outcomes = []
    for outcome in undo(folder):
        outcomes.append(outcome)
        if outcome.outcome == "failed":
            click.echo(f"failed: {printable(str(outcome.source))}: {outcome.reason}", err=True)
    failed = sum(outcome.outcome == "failed" for outcome in outcomes)
    click.echo(f"{len(outcomes) - failed} originals put back, {failed} failed", err=True)
    if failed:
        ctx.exit(ExitCode.SOME_FAILED)
