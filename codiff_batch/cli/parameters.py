"""Parameters that several commands share, and the types that parse their values."""

from __future__ import annotations

import codecs
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from codiff_batch.batch.shard import Shard
from codiff_batch.files.pipes import pieces, unbuffered
from codiff_batch.files.text import printable
from codiff_batch.rasters.kinds import SUFFIXES

Command = TypeVar("Command", bound=Callable[..., Any])

LARGEST_MILLIONS = 1e12
"""More bytes or pixels than any file system holds."""


class NamedPath(click.Path):
    """A path that is not empty: click takes an empty one, as an unset variable gives, for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check, or fail as a wrong command line does."""
        if not os.fspath(value):
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


folder = NamedPath(file_okay=False, path_type=Path)

_NULL = f"{__name__}.null"
"""Key in a context's notes: names of a list end with NUL."""
_LIST = "codiff_batch.list"
"""Key in a context's notes: the list's file."""


class Devices(click.ParamType[tuple[str, ...]]):
    """One device, or several separated by commas."""

    name = "devices"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split; whether a device exists is only known once torch is loaded."""
        devices = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else tuple(value)
        if not all(devices):
            self.fail(f"{value!r} contains an empty name", param, ctx)
        return devices


class Types(click.ParamType[tuple[str, ...]]):
    """One file type, or several separated by commas."""

    name = "types"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split, and put in order; each kind once."""
        named = {name.strip().lower() for name in value.split(",")} if isinstance(value, str) else set(value)
        if unknown := sorted(named - set(SUFFIXES)):
            self.fail(f"{unknown[0]!r} is not one of {', '.join(SUFFIXES)}", param, ctx)
        return tuple(kind for kind in SUFFIXES if kind in named)


class Number(click.FloatRange):
    """A number in a range. What is not a number is in none, though no comparison says so."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse, or fail as a wrong command line does."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class Millions(click.ParamType[int]):
    """Megapixels or megabytes, at least one pixel or byte, as pixels or bytes."""

    name = "millions"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse, or fail as an invalid command line."""
        return round(Number(1e-6, LARGEST_MILLIONS).convert(value, param, ctx) * 1e6)


class ShardType(click.ParamType[Shard]):
    """``I/N`` or ``auto``."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        """Parse, or fail as an invalid command line."""
        if isinstance(value, Shard):
            return value
        try:
            return Shard.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _read_names(ctx: click.Context, param: click.Parameter, file: Path | None) -> tuple[Path, ...]:
    if file is None:
        return ()
    ctx.meta[_LIST] = file
    try:
        data = _stdin() if file == Path("-") else file.read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{file}: {error.strerror}", ctx, param) from error
    if ctx.meta.get(_NULL):
        names = data.split(b"\0")
    elif b"\0" in data:  # Also a list in UTF-16, whose names would be none.
        raise click.BadParameter(f"{file} has NUL characters in it; if they end the names, add --null", ctx, param)
    else:
        names = data.removeprefix(codecs.BOM_UTF8).splitlines()
    return tuple(Path(os.fsdecode(name)) for name in names if name)


def list_again(ctx: click.Context) -> tuple[str, ...]:
    """Arguments that name the same list of files from any folder; none if there was no list."""
    file: Path | None = ctx.meta.get(_LIST)
    if file is None:
        return ()
    name = "-" if file == Path("-") else str(file.absolute())
    return ("--files-from", name, *(["--null"] if ctx.meta.get(_NULL) else []))


def _named(ctx: click.Context, param: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """A single missing name fails by itself later; if none of the names exists, the command line is invalid."""
    if "names" in ctx.params:  # There is a list, even if empty: options are processed before arguments.
        return paths
    if not paths:
        raise click.MissingParameter(ctx=ctx, param=param)
    if not any(map(os.path.lexists, paths)):
        raise click.BadParameter(f"{printable(str(paths[0]))} does not exist", ctx, param)
    return paths


def _stdin() -> bytes:
    return b"".join(pieces(unbuffered(sys.stdin.buffer))) if sys.stdin else b""


def _note_null(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[_NULL] = value


exclude_option = click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="Leave out matching files and folders; may be given several times.",
)

paths_argument = click.argument(
    "paths", metavar="PATH...", nargs=-1, callback=_named, type=NamedPath(readable=False, path_type=Path)
)

_SOURCES = (
    click.option(
        "--files-from", "names", callback=_read_names, metavar="FILE",
        type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
        help="Process the files listed in FILE ('-': stdin); outputs keep their tree below the current folder.",
    ),
    # Eager, as reading the list depends on it.
    click.option(
        "-0", "--null", is_flag=True, is_eager=True, expose_value=False, callback=_note_null,
        help="With --files-from: names end with NUL, as from 'find -print0'.",
    ),
    exclude_option,
    paths_argument,
)  # fmt: skip


def sources(command: Command) -> Command:
    """Give a command the parameters that select photos: ``paths``, ``names`` and ``exclude``, a tuple each."""
    for parameter in reversed(_SOURCES):
        command = parameter(command)
    return command


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help="Where the networks run: auto (a GPU if there is one), cpu, cuda, cuda:N, xpu (Intel) or mps (Apple).",
)


def none_found(types: Sequence[str]) -> str:
    """What to say if there is no file to work on."""
    suffixes = [suffix for kind in types for suffix in sorted(SUFFIXES[kind])]
    kinds = "JPEG" if tuple(types) == ("jpeg",) else " or ".join(kind.upper() for kind in types)
    return f"no {kinds} files found; folders are searched for {' '.join(suffixes)}"


def output_file_option(default: str, help_text: str) -> Callable[[Command], Command]:
    """``-o``: the one file that a command writes."""
    return click.option(
        "-o",
        "--output",
        type=NamedPath(allow_dash=True, readable=False, path_type=Path),
        default=Path(default),
        show_default=True,
        metavar="FILE",
        help=help_text,
    )
