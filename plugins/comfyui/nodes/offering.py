"""Inputs made from the engine's settings, where each one's range, default, notch and words stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from comfy_api.latest import io

from .bridge import engine

if TYPE_CHECKING:
    from codiff_batch.settings import Knob

OFF = 0.0
"""What a box that always holds a number says for a setting that is off."""
MISSING = "codiff-batch is not installed: the node can be placed, and says how to install it when it runs."


def number(name: str, *, also: str = "", optional: bool = False, off: bool = False) -> io.Input:
    """A box for a number among the settings.

    Args:
        name: of the setting and the input.
        also: what the node adds to the setting's own words.
        optional: whether graphs that were saved without it still run.
        off: the box may say :data:`OFF`, and does at first.
    """
    knob = _knob(name)
    if knob is None:
        return io.Float.Input(name, optional=optional, tooltip=MISSING)
    return io.Float.Input(
        name,
        default=OFF if off else _default(knob),
        min=min(knob.low, OFF) if off else knob.low,
        max=knob.high,
        step=knob.step,
        optional=optional,
        tooltip=_words(knob.help, also),
    )


def switch(name: str, *, also: str = "") -> io.Input:
    """A box for a setting that is on or off; the rest as for :func:`number`."""
    knob = _knob(name)
    if knob is None:
        return io.Boolean.Input(name, tooltip=MISSING)
    return io.Boolean.Input(name, default=knob.default, tooltip=_words(knob.help, also))


def precision() -> io.Input:
    """The list of what networks may compute in."""
    if not _is_there():
        return io.Combo.Input("precision", options=["auto"], default="auto", optional=True, tooltip=MISSING)
    from codiff_batch.settings import FLOATS_HELP, Floats

    options = list(get_args(Floats))
    return io.Combo.Input("precision", options=options, default=options[0], optional=True, tooltip=FLOATS_HELP)


def limits(name: str) -> dict[str, Any]:
    """A setting's range, for an input that is none itself but is compared with it."""
    knob = _knob(name)
    return {} if knob is None else {"min": knob.low, "max": knob.high}


def _is_there() -> bool:
    try:
        engine()
    except RuntimeError:
        return False
    return True


def _knob(name: str) -> Knob | None:
    if not _is_there():
        return None
    from codiff_batch.settings import Judging, Settings, knobs

    return {**knobs(Settings), **knobs(Judging)}[name]


def _default(knob: Knob) -> float:
    """The setting's, or where that is left to the model, what suits the one that a graph begins with."""
    if knob.default is not None:
        return float(knob.default)
    from codiff_batch.models.card import read_card
    from codiff_batch.models.catalogue import DEFAULT_MODEL, find

    return float(getattr(read_card(find(DEFAULT_MODEL)), knob.name))


def _words(own: str, also: str) -> str:
    return f"{own} {also}".strip()
