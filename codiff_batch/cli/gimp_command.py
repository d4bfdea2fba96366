"""``codiff-batch gimp``: the plug-in for GIMP 3."""

from __future__ import annotations

from pathlib import Path

import click

from codiff_batch.cli.parameters import folder
from codiff_batch.exit_codes import ExitCode

gimp_dir_option = click.option(
    "--gimp-dir", type=folder, help="GIMP's user folder.  [default: those of every GIMP 3 found]"
)


@click.group("gimp")
def gimp_command() -> None:
    """Install, check or remove the plug-in for GIMP 3."""


@gimp_command.command("install")
@gimp_dir_option
def install_command(gimp_dir: Path | None) -> None:
    """Install the plug-in into GIMP; it uses the Python that runs this command."""
    from codiff_batch.gimp.install import install
    from codiff_batch.gimp.places import gimp_folders, plugin_file

    for gimp in gimp_folders(gimp_dir):
        install(gimp)
        click.echo(f"installed {plugin_file(gimp)}")
    click.echo("Restart GIMP, then choose Filters > Enhance > Remove JPEG Artifacts.")


@gimp_command.command("doctor")
@gimp_dir_option
@click.pass_context
def doctor_command(context: click.Context, gimp_dir: Path | None) -> None:
    """Check the plug-in, and say how to fix any problems."""
    from codiff_batch.gimp.doctor import complaints, remarks
    from codiff_batch.gimp.places import gimp_folders

    ill = False
    for gimp in gimp_folders(gimp_dir):
        found = list(complaints(gimp))
        ill = ill or bool(found)
        click.echo(f"{gimp}: {'' if found else 'no problems found'}".rstrip())
        for complaint in found:
            click.echo(f"  - {complaint}")
    for remark in remarks():
        click.echo(f"note: {remark}")
    if ill:
        context.exit(ExitCode.UNAVAILABLE)


@gimp_command.command("uninstall")
@gimp_dir_option
def uninstall_command(gimp_dir: Path | None) -> None:
    """Remove the plug-in from GIMP."""
    from codiff_batch.gimp.install import uninstall
    from codiff_batch.gimp.places import gimp_folders

    for gimp in gimp_folders(gimp_dir):
        click.echo(f"{gimp}: {'removed' if uninstall(gimp) else 'nothing to remove'}")
