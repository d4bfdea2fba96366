"""Writes the report of a run: checks before the work that it can be written, and never loses its records."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.report import as_json, check_report_path, rescue_report, write_report
from codiff_batch.cli.streams import NobodyReads
from codiff_batch.errors import CodiffError
from codiff_batch.exit_codes import ExitCode

STDOUT = Path("-")


def check_report(place: Path) -> None:
    """Refuse a place that cannot be written to.

    Raises:
        OptionsConflict, FolderUnavailable: see :func:`~codiff_batch.batch.report.check_report_path`.
    """
    if place != STDOUT:
        check_report_path(place)


def save_report(place: Path, outcomes: Sequence[Outcome], backups: Mapping[Path, Path | None]) -> ExitCode:
    """Write the report, or its records elsewhere if that fails.

    Args:
        place: of the report, checked.
        outcomes: in their order.
        backups: of the sources, for the page.
    """
    try:
        write(place, outcomes, backups)
    except (CodiffError, OSError, NobodyReads) as error:
        rescued = rescue_report(outcomes)
        reason = "the reader is gone" if isinstance(error, NobodyReads) else error
        click.echo(f"the report cannot be written to {place}: {reason}; its records are in {rescued}", err=True)
        return ExitCode.UNAVAILABLE
    return ExitCode.OK


def write(place: Path, outcomes: Sequence[Outcome], backups: Mapping[Path, Path | None]) -> None:
    """Write a report in the format that its suffix asks for.

    Raises:
        CodiffError, OSError: the file system refuses.
        NobodyReads: it was written to a pipe that is closed.
    """
    if place == STDOUT:
        sys.stdout.write(as_json(outcomes))
    elif place.suffix.lower() == ".html":
        from codiff_batch.pages.report_page import Row, write_page

        write_page(place, [Row.of(outcome, backups.get(outcome.source)) for outcome in outcomes])
    else:
        write_report(place, outcomes)
