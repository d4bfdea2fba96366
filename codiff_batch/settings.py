"""How to judge and restore: each setting's range, default, unit and words, once for all front doors. No torch here.

A front door reads :func:`knobs` to offer the settings, makes the values with what it was given, and calls
:meth:`Settings.check` once it knows the model. Values out of range cannot be made at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from codiff_batch.errors import SettingRefused

if TYPE_CHECKING:
    from codiff_batch.models.card import ModelCard

Floats = Literal["auto", "fp32", "bf16"]
"""What every front door offers for the floats that the networks compute in."""
FLOATS_HELP = "Floats of the networks; auto takes what is faster on this machine."


@dataclass(frozen=True)
class Knob:
    """What a front door must know of a setting in order to offer it."""

    name: str
    default: float | bool | None
    """None is for settings that are off unless a number is given."""
    label: str
    """Two words for a dialog."""
    help: str
    """One sentence."""
    low: float = 0
    high: float = 1
    step: float = 1
    """What one notch of a slider changes."""
    unit: str = ""
    """Empty for a share."""

    @property
    def is_switch(self) -> bool:
        """Return True if the setting is on or off, not a number."""
        return isinstance(self.default, bool)

    def check(self, value: object) -> None:
        """Refuse what the setting cannot be.

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
    """Values that have been checked."""

    def __post_init__(self) -> None:
        for name, knob in knobs(type(self)).items():
            knob.check(getattr(self, name))

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """Take what a mapping says of the settings; the rest is as by default, and other keys are let be.

        Raises:
            SettingRefused: a value is of another type or out of range.
        """
        return cls(**{name: told[name] for name in knobs(cls) if name in told})

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, all of which shape the result."""
        return asdict(self)


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
        "How much texture to add: 0 restores faithfully, 1 looks sharpest; by default as much as suits the model.",
        step=0.05,
    )
    constrain: bool = _setting(True, "Keep to the file", "Keep the result inside the source's quantization cells.")
    qf: float | None = _setting(
        None,
        "Quality by hand",
        "JPEG quality that the pixels went through, in place of what the file and the network say.",
        low=1,
        high=100,
        unit="JPEG quality factor",
    )

    def check(self, card: ModelCard) -> None:
        """Refuse what a model cannot do.

        Raises:
            SettingRefused: with the reason.
        """
        if self.texture and not card.adds_texture:
            raise SettingRefused(
                "texture", f"'texture' is for models that add some, such as compact; {card.name} adds none"
            )

    def texture_of(self, card: ModelCard) -> float:
        """How much texture a model is to add, 0..1: what is asked for, else what its card says."""
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
        "Photos that are at least this good are skipped.",
        low=0,
        high=100,
        unit="JPEG quality factor",
    )
