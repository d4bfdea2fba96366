"""The options that restoring and watching share: what to do with photos, and where results go."""

from __future__ import annotations

from typing import get_args

import click

from codiff_batch.batch.options import Format
from codiff_batch.cli.parameters import (
    Command,
    device_option,
    folder,
    max_megapixels_option,
    min_qf_option,
    model_option,
    models_dir_option,
)

_OPTIONS = (
    min_qf_option,
    click.option("-o", "--output", type=folder, help="Output folder.  [default: <name>-restored beside the source]"),
    model_option,
    device_option,
    click.option(
        "--compile",
        "compiled",
        is_flag=True,
        help="Have torch compile the networks first: minutes once, then faster; for large models and many photos.",
    ),
    click.option(
        "--format",
        type=click.Choice(get_args(Format)),
        default="same",
        show_default=True,
        help="Format of the outputs.",
    ),
    click.option(
        "--quality",
        type=click.IntRange(1, 100),
        default=95,
        show_default=True,
        metavar="N",
        help="Quality of JPEG (always 4:4:4), WebP, AVIF and JPEG XL outputs.",
    ),
    click.option(
        "--strength",
        type=click.FloatRange(0, 1),
        default=1,
        show_default=True,
        metavar="0..1",
        help="Blend with the source: 0 changes nothing, 1 restores fully.",
    ),
    click.option(
        "--texture",
        type=click.FloatRange(0, 1),
        default=1,
        show_default=True,
        metavar="0..1",
        help="How much of its texture a model such as natural adds; 0 is its faithful restoration.",
    ),
    click.option(
        "--constrain/--no-constrain",
        default=True,
        show_default=True,
        help="Keep the result inside the source's quantization cells.",
    ),
    click.option("--copy-skipped", is_flag=True, help="Copy skipped photos too, so that nothing is missing."),
    click.option("--overwrite", is_flag=True, help="Replace outputs that exist."),
    click.option("--again", is_flag=True, help="Restore again what an older model or version of this program made."),
    click.option("--in-place", is_flag=True, help="Replace the photos themselves; needs --backup."),
    click.option("--backup", type=folder, help="Where --in-place keeps the untouched originals."),
    click.option(
        "--new-backup",
        "--new-output",
        "new_folder",
        is_flag=True,
        help="Start an empty backup or output folder where earlier runs kept theirs.",
    ),
    click.option("--include-signed", is_flag=True, help="Restore C2PA-signed photos too and drop their manifest."),
    click.option(
        "--jobs",
        type=click.IntRange(1, 64),
        default=2,
        show_default=True,
        metavar="N",
        help="Photos under way at a time.",
    ),
    max_megapixels_option,
    models_dir_option,
    click.option("-v", "--verbose", is_flag=True, help="Say of each photo what was done and why."),
    click.option("-q", "--quiet", is_flag=True, help="No progress and no summary; failures only."),
)


def processing_options(command: Command) -> Command:
    """Give a command these options, in this order in its help."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
