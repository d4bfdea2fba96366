"""Fetching a base model from the Hugging Face hub, or from a mirror of it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from codiff_batch.errors import CannotInstall, Role
from codiff_batch.files.text import printable
from codiff_batch.models.appearing import lock_of
from codiff_batch.models.card import sha256_of
from codiff_batch.models.catalogue import sources, user_models_dir
from codiff_batch.models.downloads import check_base, refuse_web_page
from codiff_batch.models.plain import LARGEST_TEXT, read_json

log = logging.getLogger(__name__)

SETTINGS = ("scheduler/scheduler_config.json", "unet/config.json", "vae/config.json")
WEIGHTS = ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors")
"""File names that a mirror may use, best first: the merged model is stored in 16 bits anyway."""
PARTS = ("unet", "vae")
FILES = {*SETTINGS, *(f"{part}/{name}" for part in PARTS for name in WEIGHTS)}
"""All that is ever fetched."""

LARGEST_WEIGHTS = 16_000_000_000
"""Bytes; the UNet in 32 bits has 3.5 billion."""

COMPLETE = ".complete"
"""Marks a folder whose files are complete and checked: their SHA-256 by name, as JSON."""


class Source(NamedTuple):
    """Where the files of a model come from."""

    base: Sequence[str]
    """Repositories of the base model, in the order in which they are tried."""
    by_hand: Mapping[str, str]
    """What only a person can fetch: page by file name."""


def source_of(model: str) -> Source:
    """Where to get a known model that is not part of the package.

    Raises:
        CannotInstall: it is not known.
    """
    if model not in sources():
        raise CannotInstall(f"no model {model!r} can be pulled; known are {', '.join(sources())}")
    own = sources()[model]
    return Source(own["base"], {row["file"]: row["page"] for row in own["by_hand"]})


def _pins(repository: str) -> Mapping[str, str]:
    """What ``sources.toml`` states about a repository."""
    return next((own["pins"][repository] for own in sources().values() if repository in own.get("pins", {})), {})


def base_folder(repository: str, models_dir: Path | None = None) -> Path:
    """Where a repository's files are kept."""
    return user_models_dir(models_dir) / ".base" / repository.replace("/", "--")


def pulled_base(repositories: Sequence[str], models_dir: Path | None = None) -> tuple[str, Path] | None:
    """The first repository that has been fetched completely and is as it was then, and its folder."""
    for repository in repositories:
        folder = base_folder(repository, models_dir)
        digests = _recorded(folder)
        if digests and all(_is_still(folder / name, digest) for name, digest in digests.items()):
            return repository, folder
    return None


def _recorded(folder: Path) -> Mapping[str, str]:
    """SHA-256 by name of the files that were complete once; none if they never were."""
    with contextlib.suppress(ValueError):
        digests = read_json(folder / COMPLETE, dict[str, str])
        if digests.keys() <= FILES:
            return digests
    return {}


def _is_still(file: Path, digest: str) -> bool:
    with contextlib.suppress(OSError):
        return sha256_of(file) == digest
    return False


def pull_base(repositories: Sequence[str], models_dir: Path | None = None) -> tuple[str, Path]:
    """Fetch the base model from the first repository that has it; a connection that breaks is taken up again.

    The endpoint is the hub's, or ``$HF_ENDPOINT``.

    Returns:
        (repository, folder)

    Raises:
        CannotInstall: none has it, with the reason for each.
    """
    from filelock import FileLock

    if done := pulled_base(repositories, models_dir):
        return done
    reasons = []
    for repository in repositories:
        folder = base_folder(repository, models_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(lock_of(folder)):
                if pulled_base([repository], models_dir) is None:  # Another program may have fetched it meanwhile.
                    _fetch(repository, folder, _pins(repository))
        except (CannotInstall, OSError) as error:
            reasons.append(f"{repository}: {error}")
            log.warning("%s", printable(reasons[-1]))
            continue
        return repository, folder
    raise CannotInstall(
        f"the base model could not be fetched (tried {len(reasons)}, last {reasons[-1]}); download its unet/, "
        "vae/ and scheduler/ another way and import the model with their folder",
        Role.BASE_MODEL,
    )


@contextlib.contextmanager
def _removed_if_refused(*files: Path) -> Iterator[None]:
    """Remove files that are refused, or the hub's library would take them for what is to be had."""
    try:
        yield
    except CannotInstall:
        for file in files:
            file.unlink(missing_ok=True)
        raise


def _fetch(repository: str, folder: Path, pins: Mapping[str, str]) -> None:
    """Fetch and check one repository's files, without sending a token: only the hub itself may see one.

    Args:
        pins: what is known about this repository: SHA-256 by file, and its ``revision``.

    Raises:
        CannotInstall: with the reason; unverified files are not kept.
    """
    from huggingface_hub import HfApi, hf_hub_download

    digests: dict[str, str] = {}
    try:
        for left_over in folder.rglob("*.incomplete"):  # Of a download that was killed: newer libraries begin anew.
            left_over.unlink(missing_ok=True)
        for name, digest in _recorded(folder).items():  # The hub's library would keep what was damaged since.
            if not _is_still(folder / name, digest):
                (folder / name).unlink(missing_ok=True)
        told = HfApi(token=False).model_info(repository, revision=pins.get("revision"), files_metadata=True)
        files = {file.rfilename: file for file in told.siblings or []}

        def fetch(name: str) -> Path:
            """Fetch a file; older versions of the hub's library give up when a connection breaks, but can resume."""
            before = 0
            while True:
                try:
                    return Path(hf_hub_download(repository, name, revision=told.sha, local_dir=folder, token=False))
                except Exception:
                    arrived = sum(part.stat().st_size for part in folder.rglob("*.incomplete"))
                    if arrived <= before:
                        raise
                    before = arrived

        for name in SETTINGS:
            if name in files and (files[name].size or 0) > LARGEST_TEXT:
                raise CannotInstall(f"{name} is far too large")
            fetch(name)
        with _removed_if_refused(*(folder / name for name in SETTINGS)):
            check_base(folder)  # Before gigabytes are fetched.
        digests |= {name: sha256_of(folder / name) for name in SETTINGS}
        for part in PARTS:
            there = [f"{part}/{weights}" for weights in WEIGHTS if f"{part}/{weights}" in files]
            if not there:
                raise CannotInstall(f"it has no safetensors weights in {part}/")
            name = there[0]
            blob = files[name].lfs
            expected = pins.get(name, blob.sha256 if blob else None)
            if expected is None:
                raise CannotInstall(f"{name} has no checksum, so it cannot be verified")
            if (files[name].size or 0) > LARGEST_WEIGHTS:
                raise CannotInstall(f"{name} is far too large")
            file = fetch(name)
            digests[name] = sha256_of(file)
            with _removed_if_refused(file):
                refuse_web_page(file)
                if digests[name] != expected:
                    raise CannotInstall(f"{name} does not match its checksum; try again")
        for name in digests:
            with (folder / name).open("rb") as file_on_disk:
                os.fsync(file_on_disk.fileno())
        (folder / COMPLETE).write_text(json.dumps(digests, indent=1), encoding="utf-8")
    except CannotInstall:
        raise
    except Exception as error:  # Connection errors come from whichever HTTP client the hub's library uses.
        raise CannotInstall((str(error).strip() or repr(error)).splitlines()[0]) from error
