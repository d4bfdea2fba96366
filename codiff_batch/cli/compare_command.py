"""``codiff-batch compare``: versions of one picture side by side."""

from __future__ import annotations

from pathlib import Path

import click

from codiff_batch.errors import OptionsConflict

_picture = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("compare")
@click.option("--original", type=_picture, help="A picture without compression, to measure both against.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("compare.html"),
    show_default=True,
    metavar="FILE",
    help="An .html page, or one .png picture.",
)
@click.argument("first", type=_picture)
@click.argument("second", type=_picture)
def compare_command(first: Path, second: Path, original: Path | None, output: Path) -> None:
    """Show two pictures of one size side by side, with the map of their differences, PSNR and SSIM."""
    from codiff_batch.pages.comparison import compare, write_comparison

    if output.suffix.lower() not in (".html", ".png"):
        raise OptionsConflict(f"--output {output.name}: the name must end in .html or .png")
    panels = compare(first, second, original)
    write_comparison(output, panels)
    for panel in panels:
        if panel.words:
            click.echo(f"{panel.name}: {panel.words}")
