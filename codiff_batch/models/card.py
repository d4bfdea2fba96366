"""``model.json``: what a model folder says about itself. No torch here, so that listing models is instant."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec

from codiff_batch.errors import ModelDamaged, ModelNotFound
from codiff_batch.files.opening import open_regular
from codiff_batch.models.plain import check_settings, is_nested_deeper, read_json

CARD_NAME = "model.json"
FORMAT = 1
"""Version of the card's own layout; a newer one is refused rather than guessed at."""

COLOUR_FIXES = ("none", "adain", "wavelet")
VIEWS = (1, 2, 4)
LARGEST_TILE, LARGEST_MULTIPLE = 8192, 1024
"""No network has the memory for larger sides (in pixels)."""
LARGEST_COST = 10**12
"""Of a step for one pixel, in bytes or multiplications."""
DEEPEST_RECORD = 20
_MERELY_TOLD = (
    *("name", "summary", "licence", "scores", "training", "weights_of"),
    *("working_memory", "macs_per_pixel", "half_steps"),
)
_ADDED_LATER = ("texture",)
"""Fields left out of the digest while they have their default, so that older cards keep their digests."""


@dataclass(frozen=True)
class ModelCard:
    """A model folder's description.

    Attributes:
        name: by which it is chosen.
        summary: one line for ``codiff-batch models list``.
        architecture: which builder of :mod:`codiff_batch.models.loading` makes the networks.
        sizes: arguments of the networks' constructors.
        tile: side of a tile in pixels, a multiple of ``multiple``.
        overlap: pixels that neighbouring tiles share.
        multiple: sides given to the networks must be multiples of this.
        value_range: of the networks' input and output images; the engine itself always uses [0, 1].
        uses_tables: whether the generator also takes the file's quantization tables as a condition.
        fade: quality factors at which the restoration starts to fade and at which nothing of it is left; on
            pictures that good a network's own error is larger than the compression's.
        colour_fix: correction over the whole photo, one of :data:`COLOUR_FIXES`.
        licence: of the weights.
        files: SHA-256 by file name.
        weights_of: name of the model beside this one whose folder has those files that this one's folder lacks; empty
            if none.
        views: how many mirrored views of a tile the generator restores, 1, 2 or 4; their mean is the result
            (the self-ensemble of EDSR, Lim et al. 2017, section 3.4, without its transposes).
        texture: how much of its texture the model adds by default, 0..1.
        half_precision: whether the networks may run in 16-bit floats on devices that are faster with them.
        half_steps: whether the generator's layers may compute in 16-bit floats, while the picture, its sums and CaVE
            keep 32 bits.
        embeds_tiles: whether each tile is guided by its own CaVE tokens, as in the full model, instead of by
            the tokens of a few crops of the photo.
        working_memory: bytes that a step needs for each pixel of a tile in 16-bit floats, beside the weights; 0 where
            the tile is small enough for any device.
        macs_per_pixel: multiplications of a step for each pixel; 0 if no warning is needed.
        scores, training: free-form records of how good the model is and how it was made.
    """

    name: str
    summary: str
    architecture: str
    sizes: Mapping[str, Any]
    tile: int
    overlap: int
    multiple: int
    licence: str
    files: Mapping[str, str]
    value_range: tuple[float, float] = (0.0, 1.0)
    weights_of: str = ""
    views: int = 1
    uses_tables: bool = False
    fade: tuple[float, float] = (100.0, 100.0)
    colour_fix: str = "none"
    texture: float = 1.0
    half_precision: bool = False
    half_steps: bool = False
    embeds_tiles: bool = False
    working_memory: int = 0
    macs_per_pixel: float = 0.0
    scores: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Short digest of all that a result depends on: the same name with other weights is another model."""
        told = {name: value for name, value in asdict(self).items() if name not in _MERELY_TOLD}
        for name in _ADDED_LATER:
            if told[name] == next(each.default for each in fields(self) if each.name == name):
                del told[name]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def adds_texture(self) -> bool:
        """Return True if the model can add texture to a faithful restoration."""
        return bool(self.sizes.get("texture", False))

    def paths(self, folder: Path) -> dict[str, Path]:
        """Paths of a model's files by name; its card is in ``folder``."""
        other = self._lender(folder) if self.weights_of else folder
        return {name: (folder if os.path.lexists(folder / name) else other) / name for name in self.files}

    def _lender(self, folder: Path) -> Path:
        """The folder of the model whose weights this one uses; a link to its folder has other neighbours than that."""
        neighbours = [place.parent / self.weights_of for place in (folder, folder.resolve())]
        return next((place for place in neighbours if os.path.lexists(place)), neighbours[0])

    def save(self, folder: Path) -> None:
        """Write ``model.json`` into the folder."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / CARD_NAME).write_text(text + "\n", encoding="utf-8")


class _Format(msgspec.Struct):
    """Checked first, since other formats may have other fields."""

    format: int = FORMAT


def read_card(folder: Path) -> ModelCard:
    """Read and check ``model.json``; fields of later programs are ignored.

    Raises:
        ModelNotFound: the folder has no card.
        ModelDamaged: the card is not valid JSON, has a missing or wrong field, or is of a newer format.
    """
    path = folder / CARD_NAME
    if not os.path.lexists(path):
        raise ModelNotFound(f"{folder} is not a model folder: it has no {CARD_NAME}")
    try:
        version = read_json(path, _Format).format
        if version != FORMAT:
            raise ValueError(f"format {version} is unknown to this version, which reads format {FORMAT}")
        card = read_json(path, ModelCard)
        _check(card)
    except ValueError as error:
        raise ModelDamaged(f"{path}: {error}") from error
    return card


def _check(card: ModelCard) -> None:
    """Refuse values that no network can have.

    Raises:
        ValueError: with the field's name.
    """
    if card.colour_fix not in COLOUR_FIXES:
        raise ValueError(f"colour_fix must be one of {', '.join(COLOUR_FIXES)}")
    if card.views not in VIEWS:
        raise ValueError(f"views must be one of {', '.join(map(str, VIEWS))}")
    if card.weights_of != Path(card.weights_of).name or card.weights_of == "..":
        raise ValueError("weights_of must be the name of a model beside this one")
    if not 1 <= card.multiple <= LARGEST_MULTIPLE:
        raise ValueError(f"multiple must be from 1 to {LARGEST_MULTIPLE}")
    if not 2 * card.multiple <= card.tile <= LARGEST_TILE or card.tile % card.multiple:
        raise ValueError(f"tile must be a multiple of {card.multiple}, from {2 * card.multiple} to {LARGEST_TILE}")
    if not 0 <= card.overlap <= card.tile // 2:
        raise ValueError("overlap must be from 0 to half a tile")
    if not all(map(math.isfinite, (*card.value_range, *card.fade))) or card.value_range[0] >= card.value_range[1]:
        raise ValueError("value_range and fade must be two numbers each, value_range rising")
    if not 0 <= card.texture <= 1:
        raise ValueError("texture must be from 0 to 1")
    for name in ("working_memory", "macs_per_pixel"):
        if not 0 <= getattr(card, name) <= LARGEST_COST:
            raise ValueError(f"{name} must be from 0 to {LARGEST_COST}")
    for name in ("scores", "training"):
        if is_nested_deeper(getattr(card, name), DEEPEST_RECORD):
            raise ValueError(f"{name} is nested more than {DEEPEST_RECORD} deep")
    check_settings(card.sizes)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a regular file.

    Raises:
        OSError: it cannot be read, or is a pipe, a device or a folder.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(card: ModelCard, folder: Path) -> None:
    """Check every file of the model against its recorded checksum.

    Raises:
        ModelDamaged: a file is missing, changed, or not a safetensors file.
    """
    for name, path in card.paths(folder).items():
        if name != path.name or path.suffix != ".safetensors":
            raise ModelDamaged(
                f"{folder.name}: {name!r} is refused, only safetensors files in the model's folder are read"
            )
        if not os.path.lexists(path):
            raise ModelDamaged(f"{path} is missing; reinstall the model {card.name!r}")
        try:
            digest = sha256_of(path)
        except OSError as error:
            raise ModelDamaged(f"{path} cannot be read: {error.strerror or error}") from error
        if digest != card.files[name]:
            raise ModelDamaged(f"{path} does not match its checksum; reinstall the model {card.name!r}")
