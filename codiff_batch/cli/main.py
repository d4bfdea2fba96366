"""``codiff-batch``: the group of commands; restoring is what it does when no command is named."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from codiff_batch import __version__
from codiff_batch.cli.remedies import explained
from codiff_batch.cli.streams import NobodyReads, safe_streams
from codiff_batch.errors import CodiffError
from codiff_batch.exit_codes import ExitCode
from codiff_batch.files.text import printable

LIBRARIES = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PILLOW_BLOCKS_MAX": "8"}
"""Set unless the user has, before numpy, torch and Pillow are imported, which read them then.

Photos are read and written in threads of their own. Those of libraries, which wait for each other by keeping a core
busy, took half of it from them: without them, good photos of 12 megapixels are judged 1.5 times as fast on two cores.
Pillow keeps the memory of the last pictures, up to 128 MB, instead of having the system clear new memory for each:
that took a third of decoding.
"""

COMMANDS = {
    "compare": "compare_command:compare_command",
    "doctor": "doctor_command:doctor_command",
    "gimp": "gimp_command:gimp_command",
    "inspect": "inspect_command:inspect_command",
    "models": "models_command:models_command",
    "preview": "preview_command:preview_command",
    "rebuild": "journal_commands:rebuild_command",
    "report": "journal_commands:report_command",
    "restore": "restore_command:restore_command",
    "serve": "serve_command:serve_command",
    "status": "journal_commands:status_command",
    "undo": "journal_commands:undo_command",
    "watch": "watch_command:watch_command",
}
"""Where each command is; its module is imported when the command is asked for."""

_OWN_OPTIONS = frozenset({"--help", "-h", "--version"})

_EPILOG = """\
To restore a folder that has the name of a command, write it as a path: ./models.

\b
Exit codes:
  0    success; photos may have been skipped
  2    invalid command line
  3    some photos failed, the others were done
  4    the model, the device, the output folder or the report file cannot be used
  5    another run is using the same output folder
  130  interrupted (143 by SIGTERM, 129 by a closed terminal); every file written so far is complete
"""


class LazyGroup(click.Group):
    """A group whose commands are imported on first use, as click's documentation describes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, without importing anything."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(f"codiff_batch.cli.{module}"), name)
        return command


class DefaultGroup(LazyGroup):
    """A group that passes everything that is not the name of a command to its default command."""

    default = "restore"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default command's name if no command is named."""
        if args and args[0] not in COMMANDS and args[0] not in _OWN_OPTIONS:
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands, the group's own options, and the default command's."""
        own = super().shell_complete(ctx, incomplete)
        return own + self._default(ctx).shell_complete(ctx, incomplete)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the default command's options as the program's own, then the other commands."""
        with formatter.section("Options"):
            parameters = [*self._default(ctx).params, *self.get_params(ctx)]
            records = [p.get_help_record(ctx) for p in parameters if isinstance(p, click.Option)]
            formatter.write_dl([record for record in records if record is not None])
        self.format_commands(ctx, formatter)

    def _default(self, ctx: click.Context) -> click.Command:
        command = self.get_command(ctx, self.default)
        assert command is not None
        return command


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

    PATH is a photo or a folder (searched recursively). Photos that are already good are skipped; restored ones go to
    a folder called NAME-restored beside the source, with all their metadata. Sources are never changed unless
    --in-place is given.
    """


def main(args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> None:
    """Run the program and exit with its code; errors raised on purpose become one line on stderr."""
    for name, value in LIBRARIES.items():
        os.environ.setdefault(name, value)
    try:
        Path.home()
    except RuntimeError:  # As for a container's user without a name: there is no folder to keep anything in.
        os.environ["HOME"] = os.devnull  # Below it nothing can be made.
    with safe_streams():
        sys.exit(_run(args, prog_name, **extra))


def _run(args: Sequence[str] | None, prog_name: str | None, **extra: Any) -> int:
    if not sys.warnoptions:
        # Libraries warn about odd metadata in their own words; what matters to the user is in the outcomes.
        warnings.simplefilter("ignore")
    try:
        return cli.main(args, prog_name, standalone_mode=False, **extra) or ExitCode.OK
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except NobodyReads:
        return ExitCode.NOBODY_READS
    except FileNotFoundError:
        if _stands_somewhere():
            raise
        click.echo("codiff-batch: error: the current folder no longer exists", err=True)
        return ExitCode.UNAVAILABLE
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) or (error.name or "").startswith("codiff_batch"):
            raise
        click.echo(f"codiff-batch: error: a library cannot be loaded: {printable(str(error))}", err=True)
        return ExitCode.UNAVAILABLE
    except CodiffError as error:
        click.echo(f"codiff-batch: error: {printable(explained(error))}", err=True)
        return error.exit_code


def _stands_somewhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True
