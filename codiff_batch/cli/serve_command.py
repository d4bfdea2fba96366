"""``codiff-batch serve``: the engine for host programs."""

from __future__ import annotations

from pathlib import Path

import click

from codiff_batch.cli.parameters import Number, device_option
from codiff_batch.cli.processing_options import batch_option
from codiff_batch.errors import OptionsConflict
from codiff_batch.settings import Floats


@click.command("serve")
@click.option(
    "--stdio", is_flag=True, help="Read requests from stdin and write answers to stdout, until stdin is closed."
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Listen on a socket in this private folder, which contains a key.",
)
@click.option("--host", type=int, metavar="PID", help="With --folder: exit when this process exits.")
@click.option(
    "--idle",
    type=Number(min=0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="With --folder: exit after this long without a client.",
)
@device_option
@batch_option("precision")
@batch_option("models_dir")
def serve_command(
    stdio: bool,
    folder: Path | None,
    host: int | None,
    idle: float,
    device: str,
    precision: Floats,
    models_dir: Path | None,
) -> None:
    """Serve a host program, such as the GIMP plug-in. The protocol is in docs/serve.md."""
    from codiff_batch.cli.signals import ending_signals
    from codiff_batch.serve.channel import StdioChannel
    from codiff_batch.serve.engine import Engine
    from codiff_batch.serve.server import FolderServer, serve
    from codiff_batch.serve.turns import Turns

    if stdio == (folder is not None) or (folder is not None) != (host is not None):
        raise OptionsConflict("give either --stdio, or --folder with --host")
    engine = Engine(device, models_dir, precision)
    if folder is not None and host is not None:
        FolderServer(folder, host, idle, engine).run(ending_signals())
    serve(StdioChannel(), engine, Turns())
