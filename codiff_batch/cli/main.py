"""``codiff-batch``: the group of commands; restoring is what it does when no command is named."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from codiff_batch import __version__
from codiff_batch.cli.compare_command import compare_command
from codiff_batch.cli.doctor_command import doctor_command
from codiff_batch.cli.exit_codes import ExitCode
from codiff_batch.cli.gimp_command import gimp_command
from codiff_batch.cli.inspect_command import inspect_command
from codiff_batch.cli.journal_commands import rebuild_command, report_command, status_command, undo_command
from codiff_batch.cli.models_command import models_command
from codiff_batch.cli.restore_command import restore_command
from codiff_batch.cli.serve_command import serve_command
from codiff_batch.cli.watch_command import watch_command
from codiff_batch.errors import (
    CodiffError,
    DeviceUnavailable,
    FolderLocked,
    FolderUnavailable,
    ModelError,
    OptionsConflict,
)

_OWN_OPTIONS = frozenset({"--help", "-h", "--version"})

_EPILOG = """\
Files and folders that are called like a command are reached with a path: ./models.

\b
Exit codes:
  0    all well; skipped photos are fine
  2    the command line cannot be understood
  3    some photos failed, the others were done
  4    the model, the device or the output folder cannot be used
  5    another run is at work in the same output folder
  130  interrupted (143 by SIGTERM); photos done so far are whole
"""


class DefaultGroup(click.Group):
    """A group that hands everything which is not a command's name to one of its commands."""

    default = "restore"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command's name in front where no command is named."""
        if args and args[0] not in self.commands and args[0] not in _OWN_OPTIONS:
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands, the group's own options, and the default command's."""
        own = super().shell_complete(ctx, incomplete)
        return own + self.commands[self.default].shell_complete(ctx, incomplete)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the default command's options as the program's own, then the other commands."""
        default = self.commands[self.default]
        with formatter.section("Options"):
            options = [p for p in [*default.params, *self.get_params(ctx)] if isinstance(p, click.Option)]
            records = [option.get_help_record(ctx) for option in options]
            formatter.write_dl([record for record in records if record is not None])
        self.format_commands(ctx, formatter)


@click.group(
    cls=DefaultGroup,
    name="codiff-batch",
    epilog=_EPILOG,
    subcommand_metavar="PATH...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="codiff-batch")
def cli() -> None:
    """Restore JPEG photos that were compressed too hard.

    PATH is a photo or a folder (searched recursively). Photos that are good already are skipped; restored ones go to
    a folder called NAME-restored beside the source, with all their metadata. Sources are never changed, unless
    --in-place is given.
    """


cli.add_command(restore_command)
cli.add_command(inspect_command)
cli.add_command(models_command)
cli.add_command(status_command)
cli.add_command(report_command)
cli.add_command(compare_command)
cli.add_command(undo_command)
cli.add_command(rebuild_command)
cli.add_command(watch_command)
cli.add_command(serve_command)
cli.add_command(gimp_command)
cli.add_command(doctor_command)


def main(args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> None:
    """Run the program and exit with its code; errors raised on purpose become one line on stderr."""
    if not sys.warnoptions:
        # Libraries warn of odd metadata in their own words; what matters to the user is in the outcomes.
        warnings.simplefilter("ignore")
    try:
        code = cli.main(args, prog_name, standalone_mode=False, **extra)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = ExitCode.INTERRUPTED
    except CodiffError as error:
        click.echo(f"codiff-batch: error: {error}", err=True)
        code = _code_of(error)
    sys.exit(code or ExitCode.OK)


def _code_of(error: CodiffError) -> ExitCode:
    if isinstance(error, OptionsConflict):
        return ExitCode.USAGE
    if isinstance(error, FolderLocked):
        return ExitCode.LOCKED
    if isinstance(error, (ModelError, DeviceUnavailable, FolderUnavailable)):
        return ExitCode.UNAVAILABLE
    return ExitCode.SOME_FAILED
