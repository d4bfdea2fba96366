"""The procedure's arguments: names, ranges and defaults, each once."""

from __future__ import annotations

from typing import Any

import gi

gi.require_version("Gimp", "3.0")
from gi.repository import Gimp, GObject  # noqa: E402

from codiff_gimp.ranges import DEFAULT_MODEL, OFF, PRECISIONS, RANGES, SWITCHES  # noqa: E402
from codiff_gimp.texts import N_, _  # noqa: E402

PROCEDURE = "plug-in-codiff-batch-remove-jpeg-artifacts"
NAMES = ("model", "strength", "texture", "quality", "constrain", "output", "scope", "precision", "jpeg")
_PRECISIONS = (
    (N_("Automatic"), N_("Whichever is faster on this machine")),
    ("32 bit", "float32"),
    ("16 bit", "bfloat16"),
)
CHOICES = {
    "output": (
        N_("Res_ult"),
        N_("Where the result goes"),
        {
            "new-layer": (N_("New layer"), N_("A restored copy above the layer")),
            "in-place": (N_("In place"), N_("Change the layer itself")),
        },
    ),
    "scope": (
        N_("_Apply to"),
        N_("What to restore"),
        {
            "selected-layers": (N_("Selected layers"), N_("The selected layers of this image")),
            "all-images": (N_("All open images"), N_("The selected layers of every open image")),
        },
    ),
    "precision": (
        N_("_Precision"),
        N_("Floating-point format of the networks"),
        dict(zip(PRECISIONS, _PRECISIONS, strict=True)),
    ),
}
"""Choices by argument: label, help, and the options with theirs; the first is the default."""


def values_of(config: Gimp.ProcedureConfig) -> dict[str, Any]:
    """The settings in a config."""
    return {name: config.get_property(name) for name in NAMES}


def add_arguments(procedure: Gimp.Procedure) -> None:
    """Tell GIMP of the arguments. Mnemonics are unique among all of the dialog's, buttons included."""
    flags = GObject.ParamFlags.READWRITE
    procedure.add_string_argument("model", _("_Model"), _("Name of a model of codiff-batch"), DEFAULT_MODEL, flags)
    procedure.add_double_argument(
        "strength", _("Stren_gth"), _("0 changes nothing, 1 restores fully"), *RANGES["strength"], flags
    )
    procedure.add_double_argument(
        "texture",
        _("Te_xture"),
        _("How much texture to add: 0 restores faithfully, 1 looks sharpest"),
        *RANGES["texture"],
        flags,
    )
    procedure.add_double_argument(
        "quality",
        _("JPEG _quality (0: automatic)"),
        _("How strongly the picture was compressed, 1 to 100; 0 reads it from the file and the pixels"),
        OFF,
        RANGES["qf"][1],
        OFF,
        flags,
    )
    procedure.add_boolean_argument(
        "constrain",
        _("Keep _within the JPEG's quantization cells"),
        _("Only results that would give exactly the same JPEG; for pictures still on their file's grid"),
        SWITCHES["constrain"],
        flags,
    )
    for name, (label, tip, options) in CHOICES.items():
        choice = Gimp.Choice.new()
        for number, (value, (words, explanation)) in enumerate(options.items()):
            choice.add(value, number, _(words), _(explanation))
        procedure.add_choice_argument(name, _(label), _(tip), choice, next(iter(options)), flags)
    procedure.add_string_argument(
        "jpeg",
        _("JPEG _file"),
        _("For scripts: the file the image was loaded from, if GIMP does not know it"),
        "",
        flags,
    )
