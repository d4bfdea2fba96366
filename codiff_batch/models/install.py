"""Installing a model: a folder appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from codiff_batch import __version__
from codiff_batch.errors import CannotInstall, Role
from codiff_batch.models.card import ModelCard, sha256_of
from codiff_batch.models.catalogue import user_models_dir
from codiff_batch.models.loading import save_weights
from codiff_batch.models.official import import_networks

FULL_MODEL = "codiff-sd21"

FILES = {
    "cave.safetensors": "cave.",
    "vae.safetensors": "generator.autoencoder.",
    "unet.safetensors": "generator.unet.",
    "projector.safetensors": "generator.",
}
"""A file for each network, by the beginning of its weights' names."""

SUMMARY = "CODiff of the paper on Stable Diffusion 2.1: brings texture back; for GPUs"
LICENCE = "CreativeML Open RAIL++-M (Stable Diffusion 2.1); CODiff's adapters as their authors say"


def import_official(
    codiff: Path,
    cave: Path,
    base: Path,
    *,
    name: str = FULL_MODEL,
    base_source: str = "",
    precision: torch.dtype = torch.float16,
    replace_existing: bool = False,
    models_dir: Path | None = None,
) -> Path:
    """Install the authors' checkpoints as a model.

    Args:
        codiff, cave, base: see :func:`~codiff_batch.models.official.import_networks`.
        base_source: where the base model came from, for the card; its folder if empty.
        precision: of the stored weights, float16 or bfloat16.

    Returns:
        The model's folder.

    Raises:
        CannotInstall: with what is wrong; nothing is left behind.
    """
    root = user_models_dir(models_dir)
    folder = root / name
    if Path(name).name != name or name.startswith("."):
        raise CannotInstall(f"{name!r} cannot be the name of a model")
    if folder.exists() and not replace_existing:
        raise CannotInstall(f"{folder} exists already", Role.MODEL_NAME, Role.REPLACE_MODEL)
    networks, sizes = import_networks(codiff, cave, base)
    provenance = {
        "imported": datetime.now(UTC).date().isoformat(),
        "by": f"codiff-batch {__version__}",
        "base": base_source or str(base),
        **{f"{told} sha256": sha256_of(file) for told, file in (("codiff.pkl", codiff), ("cave.pth", cave))},
        "changes": "adapters merged; CaVE's decoder and the base's text encoder left out",
    }
    with _appearing(folder) as partial:
        card = full_card(name, sizes, provenance)
        replace(card, files=save_weights(networks, partial, precision, FILES)).save(partial)
    return folder


def full_card(name: str, sizes: dict[str, Any], training: dict[str, Any]) -> ModelCard:
    """The card of a full CODiff, without its files."""
    return ModelCard(
        name=name,
        summary=SUMMARY,
        architecture="stable-diffusion",
        sizes=sizes,
        tile=768,
        overlap=128,
        multiple=64,
        licence=LICENCE,
        files={},
        colour_fix="adain",
        half_precision=True,
        embeds_tiles=True,
        # Measured on a CPU: 0.47 GB beside the weights for a tile of 512 pixels, in bfloat16; half as much again.
        working_memory=2700,
        # benchmarks/complexity.py, at 512 pixels.
        macs_per_pixel=9.2e6,
        training=training,
    )


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the name of ``folder`` at the end, or is gone after an error."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            # What a killed import has left: nobody else works under the lock.
            for left in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(left, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                yield partial
                partial.chmod(0o755)
                if folder.exists():
                    folder.replace(partial.with_name(f"{partial.name}-old"))
                partial.replace(folder)
                shutil.rmtree(partial.with_name(f"{partial.name}-old"), ignore_errors=True)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise CannotInstall(f"{folder} cannot be written: {error.strerror or error}") from error
