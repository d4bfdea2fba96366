"""``codiff-batch watch``: the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from codiff_batch.batch.options import BatchOptions
from codiff_batch.cli.exit_codes import ExitCode
from codiff_batch.cli.processing_options import processing_options


@click.command("watch")
@processing_options
@click.option(
    "--settle",
    type=click.FloatRange(min=0),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="A photo is taken once nobody has touched it for so long.",
)
@click.option(
    "--rescan",
    type=click.FloatRange(min=1),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Look through the whole folder so often, whatever the events said.",
)
@click.option("--polling", is_flag=True, help="Scan every 10 s rather than wait for events; chosen on network mounts.")
@click.option("--once", is_flag=True, help="Wait until what is there has settled, do it, and end.")
@click.option("--log-json", is_flag=True, help="Log JSON, a line an event.")
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.pass_context
def watch_command(
    ctx: click.Context,
    /,
    folders: tuple[Path, ...],
    settle: float,
    rescan: float,
    polling: bool,
    once: bool,
    log_json: bool,
    max_megapixels: float,
    verbose: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Watch folders and restore what arrives, for as long as the program runs.

    Outputs go where the batch puts them. Every photo is done once; a journal in the output folder remembers it.
    """
    from codiff_batch.cli.signals import GentleStop
    from codiff_batch.models.catalogue import find
    from codiff_batch.watch.daemon import Daemon, WatchOptions
    from codiff_batch.watch.logs import log_outcome, start_log

    options = BatchOptions(folders, max_pixels=round(max_megapixels * 1e6), **values)
    options.check()
    find(options.model, options.models_dir)
    start_log(as_json=log_json, verbose=verbose)
    failed = False
    with GentleStop() as signals:
        for outcome in Daemon(options, WatchOptions(settle, rescan, polling, once), signals.event).run():
            failed |= outcome.outcome == "failed"
            if not quiet or outcome.outcome == "failed":
                log_outcome(outcome)
    if signals.exit_code:
        ctx.exit(signals.exit_code)
    if once and failed:
        ctx.exit(ExitCode.SOME_FAILED)
