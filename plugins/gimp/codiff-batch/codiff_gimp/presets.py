"""Settings by purpose and words about models, as data: a line for each."""

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

SUMMARIES = {
    "compact": N_("Faithful: invents nothing. For any computer."),
    "fast": N_("Nearly as faithful as compact, in a quarter of the time."),
    "natural": N_("Adds texture that the compression took, as much as you choose."),
}
"""Of models that come with codiff-batch; others speak for themselves, in English."""
