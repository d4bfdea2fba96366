"""``codiff-batch status``, ``report``, ``undo`` and ``rebuild``: what the journal knows."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from codiff_batch.cli.parameters import output_file_option
from codiff_batch.exit_codes import ExitCode

_folder = click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, including every failure.")
@_folder
def status_command(folder: Path, as_json: bool) -> None:
    """Show what was done, skipped and failed, and what is left.

    DIR is an output folder, the backup folder of --in-place, or the photo folder beside a default output folder.
    """
    from codiff_batch.batch.outcome import SHOWN_FAILURES
    from codiff_batch.batch.status import read_status
    from codiff_batch.files.text import printable

    status = read_status(folder)
    if as_json:
        click.echo(json.dumps(asdict(status), indent=2, default=str))
        return
    counts, left = status.counts, "" if status.left is None else f", {status.left} left"
    done, skipped = counts.get("restored", 0), counts.get("skipped", 0)
    click.echo(f"{done} restored, {skipped} skipped, {len(status.failures)} failed{left}")
    if undone := counts.get("put back"):
        click.echo(f"  {undone} put back")
    for kind, count in sorted(status.reasons.items(), key=lambda item: -item[1]):
        click.echo(f"  skipped {count}: {kind}")
    for outcome in status.failures[:SHOWN_FAILURES]:
        click.echo(f"  failed: {printable(str(outcome.source))}: {printable(outcome.reason)}")
    if len(status.failures) > SHOWN_FAILURES:
        click.echo(f"  ... and {len(status.failures) - SHOWN_FAILURES} more (see --json)")
    if status.outdated:
        click.echo(f"{status.outdated} made by an older model or version; --again redoes them")
    for run in status.runs:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started))
        state = "finished" if run.ended else f"not finished (process {run.pid} on {printable(run.host)})"
        click.echo(f"latest run: {began}, {printable(run.model)}, {state}")
    click.echo(
        f"rate: {status.photos_per_second:.2f} photos/s, {status.megapixels_per_second:.2f} megapixels/s restored"
    )
    if status.minutes_left is not None:
        click.echo(f"about {status.minutes_left:.0f} min to go")


@click.command("report")
@output_file_option(
    "report.html", "A page (.html, with its thumbnails in a folder beside it), or one record per photo (.json or .csv)."
)
@_folder
def report_command(folder: Path, output: Path) -> None:
    """Report what became of every photo, from the journal.

    DIR is an output folder, the backup folder of --in-place, or the photo folder beside a default output folder.
    """
    from codiff_batch.cli.reports import check_report, write
    from codiff_batch.pages.report_page import rows_of_journals

    check_report(output)
    rows = rows_of_journals(folder)
    write(output, [row.told for row in rows], {row.told.source: row.before for row in rows})
    click.echo(f"{output}: {len(rows)} photos", err=True)


@click.command("undo")
@click.option("--dry-run", is_flag=True, help="Show what would be put back, but change nothing.")
@_folder
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.pass_context
def undo_command(ctx: click.Context, folder: Path, patterns: tuple[str, ...], dry_run: bool) -> None:
    """Put back every original that --in-place replaced.

    DIR is the backup folder. PATTERN picks photos by their path in it, such as 'holiday/*.jpg'. Photos that were
    changed since are left alone; those that were deleted come back.
    """
    from codiff_batch.batch.outcome import Kind
    from codiff_batch.batch.undo import undo
    from codiff_batch.files.text import printable

    counts: Counter[Kind] = Counter()
    for outcome in undo(folder, patterns, dry_run=dry_run):
        counts[outcome.outcome] += 1
        if dry_run or outcome.outcome is Kind.FAILED:
            line = f"{outcome.outcome}: {printable(str(outcome.source))}: {printable(outcome.reason)}"
            click.echo(line, err=True)
    if dry_run:
        done = f"{counts[Kind.WOULD_BE_PUT_BACK]} originals would be put back"
    else:
        done = f"{counts[Kind.PUT_BACK]} originals put back"
    already = f", {counts[Kind.SKIPPED]} are in place already" if counts[Kind.SKIPPED] else ""
    click.echo(f"{done}{already}, {counts[Kind.FAILED]} failed", err=True)
    if counts[Kind.FAILED]:
        ctx.exit(ExitCode.SOME_FAILED)


@click.command("rebuild")
@_folder
@click.argument("photos", metavar="PHOTOS...", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.pass_context
def rebuild_command(ctx: click.Context, folder: Path, photos: tuple[Path, ...]) -> None:
    """Make a new journal for an output or backup folder whose journal is damaged or lost.

    DIR is that folder, PHOTOS are the folders its photos came from. No photo is changed; the damaged journal is kept
    beside the new one.
    """
    from codiff_batch.batch.outcome import Kind
    from codiff_batch.batch.rebuild import rebuild
    from codiff_batch.files.text import printable

    counts: Counter[Kind] = Counter()
    for outcome in rebuild(folder, photos):
        counts[outcome.outcome] += 1
        if outcome.outcome is Kind.FAILED:
            click.echo(f"failed: {printable(str(outcome.source))}: {printable(outcome.reason)}", err=True)
    found, other = counts[Kind.RESTORED], counts[Kind.SKIPPED]
    click.echo(f"{found} restored photos found again, {other} that are not, {counts[Kind.FAILED]} failed", err=True)
    if counts[Kind.FAILED]:
        ctx.exit(ExitCode.SOME_FAILED)
