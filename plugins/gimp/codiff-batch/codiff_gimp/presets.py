"""Settings by purpose and words about models, as data: a line for each."""

from __future__ import annotations

from typing import Any, NamedTuple

from codiff_gimp.texts import N_


class Preset(NamedTuple):
    """Values that go together."""

    label: str
    values: dict[str, Any]


PRESETS = (
    Preset(N_("Balanced"), {"model": "compact", "strength": 1.0, "texture": 0.7, "quality": 0.0, "constrain": True}),
    Preset(N_("Faithful"), {"model": "compact", "strength": 1.0, "texture": 0.0, "quality": 0.0, "constrain": True}),
    Preset(N_("Light touch"), {"model": "compact", "strength": 0.5, "texture": 0.0, "quality": 0.0, "constrain": True}),
    Preset(
        N_("Phone messenger"),
        {"model": "compact", "strength": 1.0, "texture": 0.8, "quality": 0.0, "constrain": True},
    ),
    Preset(
        N_("Old web photo"),
        {"model": "compact", "strength": 1.0, "texture": 1.0, "quality": 0.0, "constrain": False},
    ),
)

SUMMARIES = {
    "compact": N_("Faithful, with as much texture as you choose. For any computer."),
    "fast": N_("Faithful and without texture, in little more than half the time."),
}
"""Of models that come with codiff-batch; others speak for themselves, in English."""
