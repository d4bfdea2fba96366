"""Make the manual pages from the program itself: ``python docs/make_man.py`` writes them to docs/man."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click_man.core import generate_man_page

from codiff_batch import __version__
from codiff_batch.cli.main import cli

FOLDER = Path(__file__).with_name("man")


def pages(command: click.Command, context: click.Context) -> dict[str, str]:
    """Manual pages by file name, of a command and those below it; the default command has one too."""
    name = context.command_path.replace(" ", "-")
    below = {}
    if isinstance(command, click.Group):
        below = {own: found for own in command.list_commands(context) if (found := command.get_command(context, own))}
        command.commands = below  # What click-man looks at; lazy commands are not in it.
    made = {f"{name}.1": generate_man_page(context, version=__version__, date=f"codiff-batch {__version__}")}
    for own, found in below.items():
        made |= pages(found, click.Context(found, info_name=own, parent=context))
    return made


def all_pages() -> dict[str, str]:
    """Every manual page of the program."""
    return pages(cli, click.Context(cli, info_name="codiff-batch"))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for stale in FOLDER.glob("*.1"):
        stale.unlink()
    for file, text in all_pages().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{FOLDER}: {len(all_pages())} pages\n")
