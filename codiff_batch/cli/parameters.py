"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from codiff_batch.batch.shard import Shard
from codiff_batch.files.text import printable
from codiff_batch.models.catalogue import DEFAULT_MODEL

Command = TypeVar("Command", bound=Callable[..., Any])

folder = click.Path(file_okay=False, path_type=Path)


def _some_exist(ctx: click.Context, param: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """One name of many that leads nowhere fails alone; where all do, the command line is wrong."""
    if paths and not any(os.path.lexists(path) for path in paths):
        raise click.BadParameter(f"{printable(str(paths[0]))} does not exist", ctx, param)
    return paths


paths_argument = click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path), callback=_some_exist
)

min_qf_option = click.option(
    "--min-qf",
    type=click.FloatRange(0, 100),
    default=60,
    show_default=True,
    metavar="N",
    help="Photos that are at least this good are skipped (JPEG quality factor 0..100).",
)

model_option = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="NAME",
    help="Model to use, by name or as a path to its folder (see 'models list').",
)

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda[:N]|mps",
    help="Where the networks run; auto takes a GPU if there is one.",
)


def output_file_option(default: str, help_text: str) -> Callable[[Command], Command]:
    """``-o``: the one file that a command writes."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path(default),
        show_default=True,
        metavar="FILE",
        help=help_text,
    )


class ShardType(click.ParamType[Shard]):
    """``I/N`` or ``auto``."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        """Parse, or fail as a wrong command line does."""
        if isinstance(value, Shard):
            return value
        try:
            return Shard.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


models_dir_option = click.option(
    "--models-dir", type=folder, help="Folder of installed models, instead of the user's data directory."
)

max_megapixels_option = click.option(
    "--max-megapixels",
    type=click.FloatRange(min=0, min_open=True),
    default=200,
    show_default=True,
    metavar="N",
    help="Refuse larger photos, before they are decoded.",
)

max_megabytes_option = click.option(
    "--max-megabytes",
    "max_bytes",
    type=click.FloatRange(min=0, min_open=True),
    callback=lambda ctx, param, value: round(value * 1e6),
    default=256,
    show_default=True,
    metavar="N",
    help="Refuse larger files, before they are read.",
)
