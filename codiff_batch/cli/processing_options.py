"""The options that restoring and watching share: what to do with photos, and where results go."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import Any, cast

import click

from codiff_batch.batch.options import BatchOptions
from codiff_batch.cli.parameters import (
    Command,
    devices_option,
    folder,
    max_bytes_option,
    max_pixels_option,
    min_qf_option,
    model_option,
    models_dir_option,
)

_OPTIONS = (
    min_qf_option,
    click.option("-o", "--output", type=folder, help="Output folder.  [default: <name>-restored beside the source]"),
    model_option,
    devices_option,
    click.option(
        "--compile",
        "compiled",
        is_flag=True,
        help="Compile the networks first: takes minutes, then each tile is faster; for large models and many photos.",
    ),
    click.option(
        "--format",
        type=click.Choice(["same", "jpeg", "png", "webp", "tiff"]),
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
        help="Quality of JPEG (always 4:4:4) and WebP outputs.",
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
        help="How much texture a model such as natural adds; 0 gives its faithful restoration.",
    ),
    click.option(
        "--constrain/--no-constrain",
        default=True,
        show_default=True,
        help="Keep the result inside the source's quantization cells.",
    ),
    click.option("--copy-skipped", is_flag=True, help="Copy skipped photos too, so that nothing is missing."),
    click.option("--overwrite", is_flag=True, help="Replace outputs that exist."),
    click.option("--in-place", is_flag=True, help="Replace the photos themselves; needs --backup."),
    click.option("--backup", type=folder, help="Where --in-place keeps the untouched originals."),
    click.option("--include-signed", is_flag=True, help="Restore C2PA-signed photos too; drops their manifest."),
    click.option(
        "--jobs",
        type=click.IntRange(1, 64),
        default=2,
        show_default=True,
        metavar="N",
        help="Threads that read and decode, and as many that encode and write.",
    ),
    max_pixels_option,
    max_bytes_option,
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Give up a photo that takes longer to read, restore or encode.  "
        "[default: 10 minutes, plus 30 for each megapixel]",
    ),
    models_dir_option,
    click.option("-v", "--verbose", is_flag=True, help="Report every photo, with the reason."),
    click.option("-q", "--quiet", is_flag=True, help="Print failures only: no progress, no summary."),
)


def processing_options(command: Command) -> Command:
    """Give a command these options, in this order in its help; it is called with ``options``, one typed value.

    All parameters of the command that are fields of :class:`BatchOptions` go into it; the others are passed as they
    are.
    """
    names = {field.name for field in fields(BatchOptions)}

    @functools.wraps(command)
    def gathered(**values: Any) -> Any:
        own = {name: values.pop(name) for name in names & values.keys()}
        return command(options=BatchOptions(**own), **values)

    wrapped: Any = gathered
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return cast(Command, wrapped)
