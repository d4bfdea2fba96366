"""Errors say what helps, each front door in its own words; only the command line names options."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import codiff_batch
from codiff_batch import errors
from codiff_batch.batch.options import BatchOptions
from codiff_batch.cli.main import COMMANDS, cli
from codiff_batch.cli.processing_options import processing_options
from codiff_batch.cli.remedies import OPTIONS, explained
from codiff_batch.errors import CodiffError, DeviceUnavailable, OptionsConflict, Role, SettingRefused
from codiff_batch.exit_codes import ExitCode

PACKAGE = Path(codiff_batch.__file__).parent
TREE = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, CodiffError)]


def spoken(module: Path) -> Iterator[str]:
    """The strings of a module that somebody may read at run time: all but its docstrings."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    silent = {
        id(part.value) for part in ast.walk(tree) if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
    }
    for part in ast.walk(tree):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and id(part) not in silent:
            yield part.value


@pytest.mark.slow
def test_no_room_but_the_command_lines_names_an_option() -> None:
    # The preview's product is a command line to paste, so it is a part of that front door.
    own = {PACKAGE / "cli", PACKAGE / "preview"}
    modules = [path for path in PACKAGE.rglob("*.py") if not own.intersection(path.parents)]
    # GIMP is asked for its version, by an option of its own.
    named = [(path.name, text) for path in modules for text in spoken(path) if re.search(r"(?<!\w)--[a-z]{2}", text)]
    assert [(name, text) for name, text in named if (name, text) != ("places.py", "--version")] == []


def options_of(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from options_of(below, context)


def test_every_role_is_an_option_that_exists() -> None:
    assert set(OPTIONS) == set(Role)
    known = set(options_of(cli, click.Context(cli)))
    for words in OPTIONS.values():
        assert words.split()[-1] in known


@pytest.mark.parametrize("kind", TREE)
def test_every_error_knows_how_a_command_ends(kind: type[CodiffError]) -> None:
    assert isinstance(kind.exit_code, ExitCode)
    assert kind.exit_code is not ExitCode.OK
    assert all(isinstance(role, Role) for role in kind.remedies)


@pytest.mark.parametrize(
    "error",
    [DeviceUnavailable("no"), OptionsConflict("no", Role.BACKUP, Role.OUTPUT), SettingRefused("min_qf", "no")],
)
def test_errors_keep_what_they_know_on_their_way_from_another_process(error: CodiffError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert (explained(arrived), arrived.exit_code) == (explained(error), error.exit_code)


def test_an_error_names_the_options_that_help() -> None:
    assert explained(OptionsConflict("not both", Role.IN_PLACE, Role.OUTPUT)) == "not both (see --in-place, --output)"
    assert explained(DeviceUnavailable("no GPU")) == "no GPU (see --device)"
    assert explained(SettingRefused("min_qf", "too much")) == "too much (see --min-qf)"
    assert explained(CodiffError("nothing helps")) == "nothing helps"


def test_options_come_as_one_value_that_equals_what_a_program_would_make() -> None:
    got: list[BatchOptions] = []

    @click.command()
    @processing_options(once=True)
    def command(options: BatchOptions, verbose: bool, quiet: bool) -> None:
        got.append(options)

    command.main([], standalone_mode=False)
    assert got == [BatchOptions()]
    command.main(["--device", "cuda:0, cuda:1", "--max-megapixels", "0.5", "--shard", "2/3"], standalone_mode=False)
    assert got[1].devices == ("cuda:0", "cuda:1")
    assert got[1].max_pixels == 500_000
    assert str(got[1].shard) == "2-of-3"


def test_every_command_is_found_where_it_is_said_to_be() -> None:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str()
