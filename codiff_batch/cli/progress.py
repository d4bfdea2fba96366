"""The progress bar."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click
from tqdm import tqdm

from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.plan import Task
from codiff_batch.cli.summary import told
from codiff_batch.files.text import printable


class Progress:
    """A bar on stderr with megapixels per second and what is being done; only where stderr is a terminal.

    Messages about single photos go above the bar.
    """

    def __init__(self, *, verbose: bool, quiet: bool) -> None:
        self._verbose, self._quiet = verbose, quiet
        self._bar: tqdm[None] = tqdm(disable=True)
        self._megapixels = 0.0
        self._started = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def planned(self, photos: int) -> None:
        """Start the bar, once the number of photos is known."""
        self._bar = tqdm(
            total=photos,
            unit="photo",
            disable=self._quiet or not photos or not sys.stderr.isatty(),
            dynamic_ncols=True,
            bar_format="{n_fmt}/{total_fmt} {bar} {elapsed}<{remaining}{postfix}",
        )
        self._started = time.monotonic()

    def stage(self, task: Task, doing: str) -> None:
        """Show what is being done to a photo; called from worker threads."""
        rate = self._megapixels / max(time.monotonic() - self._started, 1e-3)
        self._bar.set_postfix_str(f"{rate:.2f} MP/s, {doing} {printable(task.source.name)[:40]}")

    def finished(self, outcome: Outcome) -> None:
        """Count a photo, and print its line if it failed or in verbose mode."""
        self._megapixels += outcome.megapixels
        self._bar.update()
        if outcome.outcome == "failed" or (self._verbose and not self._quiet):
            with self._bar.external_write_mode(sys.stderr):
                click.echo(told(outcome), err=True)
