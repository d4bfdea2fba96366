"""How to judge and restore: each setting's range, default, unit and help text, once for all front doors. No torch here.

A front door reads :func:`knobs` to offer the settings, makes the values from what it was given, and calls
:meth:`Settings.check` once it knows the model. Values out of range cannot be made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from codiff_batch.errors import SettingRefused

if TYPE_CHECKING:
    from codiff_batch.models.card import ModelCard

Floats = Literal["auto", "fp32", "bf16"]
"""What every front door offers as the precision of the networks."""
FLOATS_HELP = "Floating-point precision of the networks; auto picks what is faster on this machine."


@dataclass(frozen=True)
class Knob:
    """What a front door needs to know to offer a setting."""

    name: str
    default: float | bool | None
    """None for settings that are off unless a number is given."""
    label: str
    """A short label for a dialog."""
    help: str
    """One sentence."""
    low: float = 0
    high: float = 1
    step: float = 1
    """One notch of a slider."""
    unit: str = ""
    """Empty if the value is a share."""

    @property
    def is_switch(self) -> bool:
        """Return True if the setting is on or off, not a number."""
        return isinstance(self.default, bool)

    def check(self, value: object) -> None:
        """Refuse a value that the setting cannot take.

        Raises:
            SettingRefused: of another type or out of range.
        """
        if self.is_switch:
            if not isinstance(value, bool):
                raise SettingRefused(self.name, f"{self.name!r} must be true or false, not {value!r}")
        elif value is not None or self.default is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not self.low <= value <= self.high:  # type: ignore[operator]
                span = f"a number from {self.low:g} to {self.high:g}"
                raise SettingRefused(self.name, f"{self.name!r} must be {span}, not {value!r}")


def _setting(default: float | bool | None, label: str, help: str, **rest: Any) -> Any:
    return field(default=default, metadata={"default": default, "label": label, "help": help, **rest})


def knobs(of: type[_Checked]) -> dict[str, Knob]:
    """Return the settings of :class:`Settings` or :class:`Judging` by name, in their order."""
    return {each.name: Knob(each.name, **each.metadata) for each in fields(of)}


@dataclass(frozen=True)
class _Checked:
    """Values that are checked when they are created."""

    def __post_init__(self) -> None:
        for name, knob in knobs(type(self)).items():
            knob.check(getattr(self, name))

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """Take the settings that a mapping has; the others keep their defaults, and other keys are ignored.

        Raises:
            SettingRefused: a value is of another type or out of range.
        """
        return cls(**{name: told[name] for name in knobs(cls) if name in told})


@dataclass(frozen=True)
class Settings(_Checked):
    """How to restore a photo.

    Raises:
        SettingRefused: a value is of another type or out of range.
    """

    strength: float = _setting(
        1.0, "Strength", "Blend with the source: 0 changes nothing, 1 restores fully.", step=0.05
    )
    texture: float | None = _setting(
        None,
        "Texture",
        "How much texture to add: 0 restores faithfully, 1 looks sharpest; the default depends on the model.",
        step=0.05,
    )
    constrain: bool = _setting(
        True,
        "Keep to the file",
        "Keep the result consistent with the file: compressed as it was, it gives the same JPEG.",
    )
    qf: float | None = _setting(
        None,
        "Quality by hand",
        "JPEG quality that the photo was compressed with; overrides what the file and the network say.",
        low=1,
        high=100,
        unit="JPEG quality factor",
    )

    def check(self, card: ModelCard) -> None:
        """Refuse settings that a model does not support.

        Raises:
            SettingRefused: with the reason.
        """
        if self.texture and not card.adds_texture:
            raise SettingRefused(
                "texture", f"'texture' needs a model that adds texture, such as compact; {card.name} adds none"
            )

    def texture_of(self, card: ModelCard) -> float:
        """How much texture a model should add, 0..1: as asked for, or by default what its card says."""
        if not card.adds_texture:
            return 0.0
        return card.texture if self.texture is None else self.texture


@dataclass(frozen=True)
class Judging(_Checked):
    """Which photos to restore.

    Raises:
        SettingRefused: a value is of another type or out of range.
    """

    min_qf: float = _setting(
        60.0,
        "Good enough",
        "Skip photos that are at least this good.",
        low=0,
        high=100,
        unit="JPEG quality factor",
    )
