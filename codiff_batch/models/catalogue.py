"""Which models there are and where: bundled with the package, installed by the user, or merely known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from codiff_batch.errors import ModelError, ModelNotFound
from codiff_batch.models.appearing import put_back
from codiff_batch.models.card import CARD_NAME, read_card

DEFAULT_MODEL = "compact"
FULL_MODEL = "codiff-sd21"
MODELS_DIR_VARIABLE = "CODIFF_BATCH_MODELS"
NETWORKS_VARIABLE = "CODIFF_BATCH_NETWORKS"
BUNDLED = Path(__file__).parent / "bundled"

SOURCES = Path(__file__).with_name("sources.toml")

FORMER = {"natural": "now part of compact, which adds texture by default"}
"""Former names of bundled models."""


@dataclass(frozen=True)
class ModelEntry:
    """One line of ``codiff-batch models list``."""

    name: str
    status: Literal["bundled", "installed", "known", "former", "damaged"]
    path: Path | None
    summary: str
    size_bytes: int = 0
    licence: str = ""


def user_models_dir(models_dir: Path | None = None) -> Path:
    """The user's model folder: the argument, else ``$CODIFF_BATCH_MODELS``, else the platform's data directory."""
    if models_dir is not None:
        return models_dir
    if variable := os.environ.get(MODELS_DIR_VARIABLE):
        return Path(variable)
    return _user_data() / "models"


def networks_folder() -> Path | None:
    """Where the user keeps the backbones of LPIPS and DISTS: ``$CODIFF_BATCH_NETWORKS``, else beside the models."""
    named = os.environ.get(NETWORKS_VARIABLE)
    folder = Path(named) if named else _user_data() / "networks"
    return folder if named or folder.is_dir() else None


@cache
def sources() -> Mapping[str, Mapping[str, Any]]:
    """Models that exist but are not part of the package, and where their files come from: ``sources.toml``."""
    import tomllib

    return tomllib.loads(SOURCES.read_text(encoding="utf-8"))


def _offer(name: str) -> str:
    return f"{sources()[name]['summary']}; start its installation with 'codiff-batch models pull {name}'"


def _user_data() -> Path:
    import platformdirs

    return platformdirs.user_data_path("codiff-batch", appauthor=False)


def available(models_dir: Path | None = None) -> list[ModelEntry]:
    """All models by name; an installed one hides a bundled one of the same name."""
    entries = {name: ModelEntry(name, "known", None, _offer(name)) for name in sources()}
    entries |= {name: ModelEntry(name, "former", None, summary) for name, summary in FORMER.items()}
    places: tuple[tuple[Path, Literal["bundled", "installed"]], ...] = (
        (BUNDLED, "bundled"),
        (user_models_dir(models_dir), "installed"),
    )
    for root, status in places:
        for folder in _folders(root):
            entry = _entry(folder, status)
            entries[entry.name] = entry
    return sorted(entries.values(), key=lambda entry: entry.name)


def find(model: str | Path, models_dir: Path | None = None) -> Path:
    """Folder of a model, by name or by path.

    Raises:
        ModelNotFound: nothing of that name is bundled or installed; the message lists what is.
    """
    text = str(model)
    if os.sep in text or "/" in text or isinstance(model, Path):
        if _has_card(Path(model)):
            return Path(model)
        raise ModelNotFound(f"{text} is not a model folder: it has no {CARD_NAME}")
    put_back(user_models_dir(models_dir))
    for root in (user_models_dir(models_dir), BUNDLED):
        if text and _has_card(root / text):
            return root / text
    if text in sources():
        raise ModelNotFound(f"model {text!r} is not installed: {_offer(text)}")
    if text in FORMER:
        raise ModelNotFound(f"model {text!r} is {FORMER[text]}")
    names = ", ".join(entry.name for entry in available(models_dir) if entry.path) or "none"
    raise ModelNotFound(f"no model named {text!r}; available: {names}")


def installed_model(name: str, models_dir: Path | None = None) -> Path | None:
    """Folder of a model that the user installed, if its card can be read and its files are there."""
    root = user_models_dir(models_dir)
    put_back(root)
    try:
        files = read_card(root / name).paths(root / name).values()
    except ModelError:
        return None
    return root / name if all(map(os.path.lexists, files)) else None


def _folders(root: Path) -> list[Path]:
    """The model folders in a folder."""
    put_back(root)
    try:
        return sorted(path for path in root.iterdir() if not path.name.startswith(".") and _has_card(path))
    except OSError:
        return []  # It does not exist or is not readable.


def _has_card(folder: Path) -> bool:
    return os.path.lexists(folder / CARD_NAME)


def _entry(folder: Path, status: Literal["bundled", "installed"]) -> ModelEntry:
    """A model's line; a problem with it is shown there and hides no other model."""
    try:
        card = read_card(folder)
        size = sum(file.stat().st_size for file in card.paths(folder).values() if os.path.lexists(file))
    except (ModelError, OSError, ValueError) as error:
        return ModelEntry(folder.name, "damaged", folder, str(error))
    return ModelEntry(folder.name, status, folder, card.summary, size, card.licence)
