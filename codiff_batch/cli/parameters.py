"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

folder = click.Path(file_okay=False, path_type=Path)

paths_argument = click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda[:N]|mps",
    help="Where the networks run; auto takes a GPU if there is one.",
)

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
