"""``codiff-batch doctor``: what this machine has, and what is wrong."""

from __future__ import annotations

from pathlib import Path

import click

from codiff_batch.cli.parameters import device_option
from codiff_batch.cli.processing_options import batch_option
from codiff_batch.exit_codes import ExitCode


@click.command("doctor")
@device_option
@batch_option("models_dir")
@click.pass_context
def doctor_command(context: click.Context, device: str, models_dir: Path | None) -> None:
    """Show what this machine has, what would be used, how fast it is, and what is wrong.

    The bundled models are loaded and timed, which takes a few seconds.
    """
    from codiff_batch.doctor import examine

    complaints = []
    for part in examine(device, models_dir):
        click.echo(f"{part.heading}:")
        for line in part.found:
            click.echo(f"  {line}")
        complaints += part.complaints
    click.echo("no problems found" if not complaints else "problems:")
    for complaint in complaints:
        click.echo(f"  - {complaint}")
    if complaints:
        context.exit(ExitCode.UNAVAILABLE)
