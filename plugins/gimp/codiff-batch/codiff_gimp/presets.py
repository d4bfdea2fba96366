"""Settings by purpose, as data: a line for each."""

from __future__ import annotations

from typing import Any, NamedTuple

from codiff_gimp.texts import N_


class Preset(NamedTuple):
    """Values that go together."""

    label: str
    values: dict[str, Any]


PRESETS = (
    Preset(N_("Faithful"), {"model": "compact", "strength": 1.0, "texture": 1.0, "quality": 0.0, "constrain": True}),
    Preset(N_("Light touch"), {"model": "compact", "strength": 0.5, "texture": 1.0, "quality": 0.0, "constrain": True}),
    Preset(
        N_("Phone messenger"),
        {"model": "natural", "strength": 1.0, "texture": 0.5, "quality": 0.0, "constrain": True},
    ),
    Preset(
        N_("Old web photo"),
        {"model": "natural", "strength": 1.0, "texture": 1.0, "quality": 0.0, "constrain": False},
    ),
)
