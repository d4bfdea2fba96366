"""The settings to compare, as a product of what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codiff_batch.errors import SettingRefused
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import DEFAULT_MODEL, available, find

TEXTURES = (0.0, 0.5, 1.0)
"""Compared where nothing is asked for."""


@dataclass(frozen=True)
class Setting:
    """One way to restore."""

    model: str
    texture: float | None = None
    """How much of the model's texture, 0..1; None for a model that adds none."""
    strength: float = 1.0

    @property
    def words(self) -> str:
        """What a person calls it."""
        words = [Path(self.model).name]
        if self.texture is not None:
            words.append(f"texture {self.texture:g}")
        if self.strength != 1:
            words.append(f"strength {self.strength:g}")
        return ", ".join(words)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The options of the command line that ask for it."""
        # A path would mean another model in another folder.
        model = str(Path(self.model).absolute()) if "/" in self.model or "\\" in self.model else self.model
        texture = () if self.texture is None else ("--texture", f"{self.texture:g}")
        strength = () if self.strength == 1 else ("--strength", f"{self.strength:g}")
        return ("--model", model, *texture, *strength)


def settings(
    models: Sequence[str], textures: Sequence[float], strengths: Sequence[float], models_dir: Path | None
) -> list[Setting]:
    """Every model with every texture, where it adds some, and every strength; no setting twice.

    Args:
        models: names or paths; empty for the default model and one that adds texture.
        textures: 0..1; empty for :data:`TEXTURES`.
        strengths: 0..1.
        models_dir: where installed models lie.

    Raises:
        SettingRefused: textures are asked for and no model adds any.
        ModelNotFound, ModelDamaged: a model cannot be used.
    """
    models = models or _usual(models_dir)
    textured = {model: read_card(find(model, models_dir)).adds_texture for model in models}
    if textures and not any(textured.values()):
        raise SettingRefused(
            "texture", f"'texture' is for models that add some, such as natural; {models[0]} adds none"
        )
    made = [
        Setting(model, texture, strength)
        for model in models
        for texture in (textures or TEXTURES if textured[model] else (None,))
        for strength in strengths
    ]
    return list(dict.fromkeys(made))


def _usual(models_dir: Path | None) -> list[str]:
    """The default model, with a bundled one that adds texture where it adds none itself."""
    bundled = {entry.name: entry.path for entry in available(models_dir) if entry.status == "bundled" and entry.path}
    textured = [name for name, path in bundled.items() if read_card(path).adds_texture]
    return [DEFAULT_MODEL] if DEFAULT_MODEL in textured else [DEFAULT_MODEL, *textured[:1]]
