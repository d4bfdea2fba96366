"""Fetching a base model from the Hugging Face hub, or from a mirror of it."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codiff_batch.errors import CannotInstall, Role
from codiff_batch.models.card import sha256_of
from codiff_batch.models.catalogue import user_models_dir
from codiff_batch.models.downloads import check_base, refuse_web_page

log = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("sources.toml")

SETTINGS = ("scheduler/scheduler_config.json", "unet/config.json", "vae/config.json")
WEIGHTS = ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors")
"""What a mirror may have, best first: the merged model is kept in 16 bits anyway."""

COMPLETE = ".complete"
"""Marks a folder whose files are all there and checked."""


class Source(NamedTuple):
    """Where the files of a model come from."""

    base: Sequence[str]
    """Repositories of the base model, in the order in which they are tried."""
    by_hand: Mapping[str, str]
    """What only a person can fetch: page by file name."""


def source_of(model: str) -> Source:
    """Where to get a model that is known but not part of the package.

    Raises:
        CannotInstall: nothing is known of it.
    """
    sources: dict[str, Any] = tomllib.loads(SOURCES.read_text(encoding="utf-8"))
    if model not in sources:
        raise CannotInstall(f"no model {model!r} can be pulled; known are {', '.join(sources)}")
    own = sources[model]
    return Source(own["base"], {row["file"]: row["page"] for row in own["by_hand"]})


def base_folder(repository: str, models_dir: Path | None = None) -> Path:
    """Where a repository's files are kept."""
    return user_models_dir(models_dir) / ".base" / repository.replace("/", "--")


def pulled_base(repositories: Sequence[str], models_dir: Path | None = None) -> tuple[str, Path] | None:
    """The first of some repositories that has been fetched whole, and its folder."""
    for repository in repositories:
        folder = base_folder(repository, models_dir)
        if (folder / COMPLETE).is_file():
            return repository, folder
    return None


def pull_base(repositories: Sequence[str], models_dir: Path | None = None) -> tuple[str, Path]:
    """Fetch the base model from the first repository that has it; an interrupted download goes on.

    The endpoint is the hub's, or ``$HF_ENDPOINT``.

    Returns:
        (repository, folder)

    Raises:
        CannotInstall: none has it, with the reason for each.
    """
    if done := pulled_base(repositories, models_dir):
        return done
    reasons = []
    for repository in repositories:
        folder = base_folder(repository, models_dir)
        try:
            _fetch(repository, folder)
        except CannotInstall as error:
            reasons.append(f"{repository}: {error}")
            log.warning("%s", reasons[-1])
            continue
        return repository, folder
    raise CannotInstall(
        f"the base model could not be fetched (tried {len(reasons)}, last {reasons[-1]}); fetch its unet/, "
        "vae/ and scheduler/ in any other way and import the model with their folder",
        Role.BASE_MODEL,
    )


def _fetch(repository: str, folder: Path) -> None:
    from huggingface_hub import HfApi, hf_hub_download

    try:
        told = HfApi().model_info(repository, files_metadata=True)
        listed = {file.rfilename: file.lfs.sha256 if file.lfs else None for file in told.siblings or []}
        for name in SETTINGS:
            hf_hub_download(repository, name, revision=told.sha, local_dir=folder)
        check_base(folder)  # Before gigabytes are fetched.
        for part in ("unet", "vae"):
            there = [f"{part}/{weights}" for weights in WEIGHTS if f"{part}/{weights}" in listed]
            if not there:
                raise CannotInstall(f"it has no safetensors weights in {part}/")
            name = there[0]
            file = Path(hf_hub_download(repository, name, revision=told.sha, local_dir=folder))
            refuse_web_page(file)
            if listed[name] is not None and sha256_of(file) != listed[name]:
                file.unlink()
                raise CannotInstall(f"{name} arrived damaged; try again")
    except CannotInstall:
        raise
    except Exception as error:  # Connection errors are those of whichever HTTP client the hub's library uses today.
        raise CannotInstall((str(error).strip() or repr(error)).splitlines()[0]) from error
    (folder / COMPLETE).write_text("")
