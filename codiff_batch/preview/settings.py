"""The settings to compare: all combinations of what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codiff_batch.errors import SettingRefused
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import DEFAULT_MODEL, find


@dataclass(frozen=True)
class Setting:
    """One way to restore."""

    model: str
    texture: float | None = None
    """How much of the model's texture, 0..1; None for a model that adds none."""
    strength: float = 1.0

    @property
    def words(self) -> str:
        """Its name for people."""
        words = [Path(self.model).name]
        if self.texture is not None:
            words.append(f"texture {self.texture:g}")
        if self.strength != 1:
            words.append(f"strength {self.strength:g}")
        return ", ".join(words)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command-line options for it."""
        # A path would mean another model in another folder.
        model = str(Path(self.model).absolute()) if "/" in self.model or "\\" in self.model else self.model
        texture = () if self.texture is None else ("--texture", f"{self.texture:g}")
        strength = () if self.strength == 1 else ("--strength", f"{self.strength:g}")
        return ("--model", model, *texture, *strength)


def settings(
    models: Sequence[str], textures: Sequence[float], strengths: Sequence[float], models_dir: Path | None
) -> list[Setting]:
    """Every model with every texture, if it adds any, and every strength; no setting twice.

    Args:
        models: names or paths; empty for the default model.
        textures: 0..1; empty for 0, each model's own amount, and 1.
        strengths: 0..1.
        models_dir: where installed models lie.

    Raises:
        SettingRefused: textures are asked for and no model adds any.
        ModelNotFound, ModelDamaged: a model cannot be used.
    """
    cards = {model: read_card(find(model, models_dir)) for model in models or [DEFAULT_MODEL]}
    if textures and not any(card.adds_texture for card in cards.values()):
        raise SettingRefused(
            "texture", f"'texture' needs a model that adds texture, such as compact; {next(iter(cards))} adds none"
        )
    made = [
        Setting(model, texture, strength)
        for model, card in cards.items()
        for texture in (textures or (0.0, card.texture, 1.0) if card.adds_texture else (None,))
        for strength in strengths
    ]
    return list(dict.fromkeys(made))
