#!/usr/bin/env python3
"""GIMP 3 plug-in: Filters > Enhance > Remove JPEG Artifacts.

GIMP's own Python has neither numpy nor torch, so the plug-in needs nothing but the standard library and gi. The work
is done by ``codiff-batch serve`` in the user's environment (docs/serve.md), which lives as long as this GIMP, or until
it has not been used for a while. ``codiff-batch gimp install`` puts this folder in its place.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gimp", "3.0")
from codiff_gimp.arguments import PROCEDURE, add_arguments, values_of  # noqa: E402
from codiff_gimp.engine import interpreter  # noqa: E402
from codiff_gimp.texts import DOMAIN, Refused, _  # noqa: E402
from codiff_gimp.work import check_all, engine_at_work, restore, restore_all_images  # noqa: E402
from gi.repository import Gimp, GLib  # noqa: E402


def run(
    procedure: Gimp.Procedure,
    run_mode: Gimp.RunMode,
    image: Gimp.Image,
    drawables: list[Gimp.Drawable],
    config: Gimp.ProcedureConfig,
    data: None,
) -> Gimp.ValueArray:
    """What GIMP calls."""
    try:
        engine = None
        if run_mode == Gimp.RunMode.INTERACTIVE:
            interpreter()
            from codiff_gimp.dialog import ask_user

            engine = ask_user(procedure, config, image, drawables)
            if engine is None:
                return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, GLib.Error())
        settings = values_of(config)
        if settings["scope"] == "selected-layers":
            check_all(image, drawables, settings)
        with engine_at_work(engine) as engine:
            if settings["scope"] == "all-images":
                restore_all_images(settings, engine)
            else:
                restore(image, drawables, settings, engine)
    except (Refused, OSError) as error:
        reason = GLib.Error.new_literal(Gimp.PlugIn.error_quark(), str(error), 0)
        return procedure.new_return_values(Gimp.PDBStatusType.EXECUTION_ERROR, reason)
    return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, GLib.Error())


class CodiffBatch(Gimp.PlugIn):
    """The plug-in as GIMP knows it."""

    def do_query_procedures(self) -> list[str]:
        """Names of the procedures."""
        return [PROCEDURE]

    def do_set_i18n(self, name: str) -> tuple[bool, str, str]:
        """Where the catalogues of translations are."""
        return True, DOMAIN, "locale"

    def do_create_procedure(self, name: str) -> Gimp.Procedure:
        """Menu entry, documentation, arguments."""
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, run, None)
        procedure.set_image_types("RGB*, GRAY*")
        procedure.set_sensitivity_mask(Gimp.ProcedureSensitivityMask.DRAWABLE | Gimp.ProcedureSensitivityMask.DRAWABLES)
        procedure.set_menu_label(_("Remove _JPEG Artifacts…"))
        procedure.add_menu_path("<Image>/Filters/Enhance")
        procedure.set_documentation(
            _("Remove JPEG artifacts from photos in one diffusion step"),
            _(
                "Removes JPEG artifacts from the selected layers, within the selection. Colours are not "
                "converted. If a picture still lies on its JPEG's grid, the file's own quantization tables guide and "
                "bound the result."
            ),
            name,
        )
        procedure.set_attribution("codiff-batch", "codiff-batch", "2026")
        add_arguments(procedure)
        return procedure


Gimp.main(CodiffBatch.__gtype__, sys.argv)
