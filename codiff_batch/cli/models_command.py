"""``codiff-batch models``: what can be used, and getting more."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from codiff_batch.cli.processing_options import batch_option
from codiff_batch.errors import CannotInstall
from codiff_batch.files.text import printable
from codiff_batch.models.catalogue import FULL_MODEL

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("models")
def models_command() -> None:
    """List models, show their cards, and install more."""


@models_command.command("list")
@batch_option("models_dir")
def list_command(models_dir: Path | None) -> None:
    """List bundled, installed and known models."""
    from codiff_batch.models.catalogue import available, user_models_dir

    for entry in available(models_dir):
        size = f"{entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else "-"
        click.echo(f"{printable(entry.name):<16} {entry.status:<10} {size:>9}  {printable(entry.summary)}")
    click.echo(f"installed models are looked for in {user_models_dir(models_dir)}", err=True)


@models_command.command("show")
@click.argument("name")
@batch_option("models_dir")
def show_command(name: str, models_dir: Path | None) -> None:
    """Show a model's card: sizes, licence, scores, and how it was trained."""
    from codiff_batch.models.card import read_card
    from codiff_batch.models.catalogue import find

    text = json.dumps(asdict(read_card(find(name, models_dir))), indent=2, ensure_ascii=False)
    click.echo("\n".join(map(printable, text.split("\n"))))


@models_command.command("pull")
@click.argument("name", default=FULL_MODEL)
@click.option("--mirror", "mirrors", multiple=True, metavar="ID", help="Repository to download from.")
@batch_option("models_dir")
def pull_command(name: str, mirrors: tuple[str, ...], models_dir: Path | None) -> None:
    """Download the base of a known model, and say what is left to do by hand.

    Nothing is downloaded for a model that is installed.
    """
    from codiff_batch.models.catalogue import installed_model, user_models_dir
    from codiff_batch.models.hub import pull_base, source_of
    from codiff_batch.pages.shells import join, usual_shell

    source = source_of(name)
    if installed := installed_model(name, models_dir):
        again = "'codiff-batch models import' with --replace installs it again"
        click.echo(f"{name} is already installed in {installed}; use it with --model {name}; {again}")
        return
    repository, folder = pull_base(mirrors or source.base, models_dir)
    click.echo(f"{repository} is in {folder}")
    click.echo("Download by hand, from the web pages:")
    for file, page in source.by_hand.items():
        click.echo(f"  {file}: {page}")
    click.echo("Then install the model:")
    files = [part for file in source.by_hand for part in (f"--{Path(file).stem}", file)]
    base = ["--base", repository] if mirrors else []
    named = ["--name", name] if name != FULL_MODEL else []
    elsewhere = ["--models-dir", str(models_dir)] if models_dir else []
    # Whatever is in the way is damaged, or it would have been found above.
    replaced = ["--replace"] if (user_models_dir(models_dir) / name).exists() else []
    arguments = ["codiff-batch", "models", "import", *files, *base, *named, *elsewhere, *replaced]
    click.echo(f"  {join(arguments, usual_shell())}")


@models_command.command("import")
@click.option("--codiff", required=True, type=_file, help="The authors' codiff.pkl.")
@click.option("--cave", required=True, type=_file, help="The authors' cave.pth.")
@click.option(
    "--base",
    metavar="DIR|ID",
    help="Stable Diffusion 2.1-base: a folder with unet/, vae/ and scheduler/, or a repository on the hub.  "
    "[default: what 'models pull' downloaded; fetched if missing]",
)
@click.option("--name", default=FULL_MODEL, show_default=True, help="Name of the model, for --model.")
@click.option("--precision", type=click.Choice(["fp16", "bf16"]), default="fp16", show_default=True)
@click.option("--replace", "replace_existing", is_flag=True, help="Replace an installed model of this name.")
@batch_option("models_dir")
def import_command(
    codiff: Path,
    cave: Path,
    base: str | None,
    name: str,
    precision: str,
    replace_existing: bool,
    models_dir: Path | None,
) -> None:
    """Install the authors' checkpoints as a model."""
    from codiff_batch.models.downloads import refuse_web_page

    for file in (codiff, cave):
        refuse_web_page(file)  # before gigabytes are fetched
    from codiff_batch.models.install import import_official, place_for

    place_for(name, replace_existing=replace_existing, models_dir=models_dir)
    if base is not None and Path(base).is_absolute() and not Path(base).is_dir():
        raise CannotInstall(f"--base {base}: there is no such folder")
    import torch

    from codiff_batch.models.catalogue import sources
    from codiff_batch.models.hub import pull_base, source_of

    if base is not None and Path(base).is_dir():
        source, folder = base, Path(base)
    else:
        known = name if name in sources() else FULL_MODEL
        source, folder = pull_base([base] if base else source_of(known).base, models_dir)
    installed = import_official(
        codiff,
        cave,
        folder,
        name=name,
        base_source=source,
        precision={"fp16": torch.float16, "bf16": torch.bfloat16}[precision],
        replace_existing=replace_existing,
        models_dir=models_dir,
    )
    click.echo(f"installed {name} in {installed}; use it with --model {name}")
