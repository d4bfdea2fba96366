"""``codiff-batch models``: what can be used."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from codiff_batch.cli.parameters import models_dir_option


@click.group("models")
def models_command() -> None:
    """List models and show their cards."""


@models_command.command("list")
@models_dir_option
def list_command(models_dir: Path | None) -> None:
    """List bundled, installed and known models."""
    from codiff_batch.models.catalogue import available, user_models_dir

    for entry in available(models_dir):
        size = f"{entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else "-"
        click.echo(f"{entry.name:<16} {entry.status:<10} {size:>9}  {entry.summary}")
    click.echo(f"installed models are looked for in {user_models_dir(models_dir)}", err=True)


@models_command.command("show")
@click.argument("name")
@models_dir_option
def show_command(name: str, models_dir: Path | None) -> None:
    """Show a model's card: sizes, licence, scores, and how it was trained."""
    from codiff_batch.models.card import read_card
    from codiff_batch.models.catalogue import find

    click.echo(json.dumps(asdict(read_card(find(name, models_dir))), indent=2, ensure_ascii=False))
