"""``codiff-batch watch``: the daemon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from codiff_batch.batch.options import BatchOptions
from codiff_batch.cli.parameters import Number, exclude_option
from codiff_batch.cli.processing_options import processing_options
from codiff_batch.exit_codes import ExitCode


@click.command("watch")
@processing_options(once=False)
@click.option(
    "--settle",
    type=Number(min=0),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="Take a photo once it has not changed for this long.",
)
@click.option(
    "--rescan",
    type=Number(min=1),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Rescan the whole folder at this interval.",
)
@click.option(
    "--polling", is_flag=True, help="Scan every 10 s instead of waiting for events; the default on network mounts."
)
@click.option("--once", is_flag=True, help="Process what is there, then exit.")
@click.option("--log-json", is_flag=True, help="Log one JSON object per line.")
@exclude_option
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.pass_context
def watch_command(
    ctx: click.Context,
    options: BatchOptions,
    folders: tuple[Path, ...],
    settle: float,
    rescan: float,
    polling: bool,
    once: bool,
    log_json: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Watch folders and restore what arrives, until stopped.

    Outputs go where a batch would put them. Every photo is done once; a journal in the output folder keeps track.
    """
    from codiff_batch.cli.signals import GentleStop
    from codiff_batch.watch.daemon import Daemon, WatchOptions
    from codiff_batch.watch.logs import log_outcome, start_log

    options = replace(options, paths=folders)
    options.check()
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
