"""``codiff-batch gimp``: the plug-in for GIMP 3."""

from __future__ import annotations

from pathlib import Path

import click

from codiff_batch.cli.parameters import folder
from codiff_batch.exit_codes import ExitCode

gimp_dir_option = click.option(
    "--gimp-dir", type=folder, help="GIMP's user folder, instead of those of every GIMP 3 that is found."
)


@click.group("gimp")
def gimp_command() -> None:
    """Install the plug-in for GIMP 3, examine it, or remove it."""


@gimp_command.command("install")
@gimp_dir_option
def install_command(gimp_dir: Path | None) -> None:
    """Put the plug-in into GIMP; it will use the Python that runs this command."""
    from codiff_batch.gimp.install import install
    from codiff_batch.gimp.places import gimp_folders, plugin_file

    for gimp in gimp_folders(gimp_dir):
        install(gimp)
        click.echo(f"installed {plugin_file(gimp)}")
    click.echo("Start GIMP again: Filters > Enhance > Remove JPEG Artifacts.")


@gimp_command.command("doctor")
@gimp_dir_option
@click.pass_context
def doctor_command(context: click.Context, gimp_dir: Path | None) -> None:
    """Say what is wrong with the plug-in and how to fix it."""
    from codiff_batch.gimp.doctor import complaints, remarks
    from codiff_batch.gimp.places import gimp_folders

    ill = False
    for gimp in gimp_folders(gimp_dir):
        found = list(complaints(gimp))
        ill = ill or bool(found)
        click.echo(f"{gimp}: {'all well' if not found else ''}".rstrip())
        for complaint in found:
            click.echo(f"  - {complaint}")
    for remark in remarks():
        click.echo(f"note: {remark}")
    if ill:
        context.exit(ExitCode.UNAVAILABLE)


@gimp_command.command("uninstall")
@gimp_dir_option
def uninstall_command(gimp_dir: Path | None) -> None:
    """Take the plug-in out of GIMP."""
    from codiff_batch.gimp.install import uninstall
    from codiff_batch.gimp.places import gimp_folders

    for gimp in gimp_folders(gimp_dir):
        click.echo(f"{gimp}: {'removed' if uninstall(gimp) else 'there was nothing to remove'}")
