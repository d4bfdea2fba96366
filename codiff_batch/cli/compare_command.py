"""``codiff-batch compare``: versions of one picture side by side."""

from __future__ import annotations

from pathlib import Path

import click

from codiff_batch.cli.parameters import output_file_option
from codiff_batch.errors import OptionsConflict
from codiff_batch.files.identity import same_file

_picture = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("compare")
@click.option("--original", type=_picture, help="An uncompressed picture to measure both against.")
@output_file_option("compare.html", "An .html page, or one .png picture.")
@click.option(
    "--networks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the backbones of LPIPS and DISTS, to report these too.  "
    "[default: $CODIFF_BATCH_NETWORKS, or 'networks' in the user's data directory, if it is there]",
)
@click.argument("first", type=_picture)
@click.argument("second", type=_picture)
def compare_command(first: Path, second: Path, original: Path | None, output: Path, networks: Path | None) -> None:
    """Compare two pictures of the same size: side by side, with a map of their differences, PSNR and SSIM."""
    from codiff_batch.pages.comparison import compare, perceptual, write_comparison

    compared = [path for path in (first, second, original) if path is not None]
    if any(same_file(output, path) for path in compared):
        raise OptionsConflict(f"--output {output} is one of the pictures to compare")
    if output.suffix.lower() not in (".html", ".png"):
        raise OptionsConflict(f"--output {output.name}: the name must end in .html or .png")
    panels = compare(first, second, original, perceptual(networks))
    write_comparison(output, panels, compared)
    for panel in panels:
        if panel.words:
            click.echo(f"{panel.name}: {panel.words}")
