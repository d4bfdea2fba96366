"""The dialog: a live preview beside the settings, usable from the first moment on."""

from __future__ import annotations

from typing import Any

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("GimpUi", "3.0")
gi.require_version("Gdk", "3.0")
gi.require_version("Gtk", "3.0")
from gi.repository import Gdk, Gimp, GimpUi, Gtk  # noqa: E402

from codiff_gimp.arguments import CHOICES, PROCEDURE, values_of  # noqa: E402
from codiff_gimp.assistant import Assistant  # noqa: E402
from codiff_gimp.engine import Engine  # noqa: E402
from codiff_gimp.help import open_page  # noqa: E402
from codiff_gimp.layers import check  # noqa: E402
from codiff_gimp.presets import PRESETS, SUMMARIES  # noqa: E402
from codiff_gimp.preview import Preview  # noqa: E402
from codiff_gimp.texts import Refused, _  # noqa: E402
from codiff_gimp.work import seen  # noqa: E402

OWN_VALUES = "own"
DIGITS = {"strength": 2, "texture": 2, "quality": 0}
"""Sliders, from top to bottom, with the decimals that they show."""


class Dialog:
    """Asks the user how to restore, and shows what the result will be."""

    def __init__(
        self, procedure: Gimp.Procedure, config: Gimp.ProcedureConfig, image: Gimp.Image, layer: Gimp.Layer
    ) -> None:
        GimpUi.init(PROCEDURE)
        self._config, self._image, self._layer = config, image, layer
        self._models: dict[str, dict[str, Any]] = {}
        self._on_grid: bool | None = None
        self._dialog = GimpUi.ProcedureDialog.new(procedure, config, _("Remove JPEG Artifacts"))
        self._dialog.connect("key-press-event", self._key)
        self._dialog.connect("response", self._response)
        self._preview = Preview(image, layer, check(image, layer, in_place=False))
        self._told = Gtk.Label(xalign=0, wrap=True, max_width_chars=44, label=_("The engine is starting…"))
        self._preset, self._model = Gtk.ComboBoxText(), Gtk.ComboBoxText()
        self._summary = Gtk.Label(xalign=0, wrap=True, max_width_chars=44, width_chars=44)
        self._choices: dict[str, Gtk.ComboBoxText] = {}
        self._reasons = {
            name: Gtk.Label(xalign=0, wrap=True, max_width_chars=44, no_show_all=True)
            for name in ("texture", "constrain")
        }
        columns = Gtk.Box(spacing=18, border_width=6)
        columns.pack_start(self._preview, False, False, 0)
        columns.pack_start(self._settings(), True, True, 0)
        self._dialog.get_content_area().pack_start(columns, True, True, 0)
        columns.show_all()
        self._fill_models([{"name": config.get_property("model"), "summary": "", "texture": True}])
        config.connect("notify", lambda *_what: self._follow())
        self._follow()
        self._assistant = Assistant(self._preview.say)
        self._assistant.ask({"do": "hello"}, self._meet)

    def run(self) -> Engine | None:
        """Show it; return the engine to work with, or None if the user went away.

        Raises:
            Refused: there is no engine.
        """
        agreed = self._dialog.run()
        self._dialog.destroy()
        if not agreed:
            return None
        Gimp.progress_init(_("Starting the engine"))
        return self._assistant.leave()

    def _settings(self) -> Gtk.Box:
        """The right side."""
        box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=6, width_request=480)
        names, numbers = (Gtk.SizeGroup(mode=Gtk.SizeGroupMode.HORIZONTAL) for _column in range(2))

        def add(widget: Gtk.Widget) -> None:
            box.pack_start(widget, False, False, 0)

        def add_named(words: str, widget: Gtk.Widget) -> None:
            label = Gtk.Label(label=words, use_underline=True, xalign=0, mnemonic_widget=widget)
            names.add_widget(label)
            row = Gtk.Box(spacing=6)
            row.pack_start(label, False, False, 0)
            row.pack_start(widget, True, True, 0)
            add(row)

        add(self._told)
        self._preset.append(OWN_VALUES, _("own settings"))
        for preset in PRESETS:
            self._preset.append(preset.label, _(preset.label))
        self._preset.connect("changed", self._take_preset)
        add_named(_("Prese_t"), self._preset)
        self._model.connect("changed", self._take_model)
        add_named(_("_Model"), self._model)
        add(self._summary)
        for name in DIGITS:
            scale = self._dialog.get_scale_entry(name, 1.0)
            scale.set_digits(DIGITS[name])
            for part in scale.get_children():
                if isinstance(part, Gtk.SpinButton):
                    numbers.add_widget(part)
            names.add_widget(scale.get_label() if hasattr(scale, "get_label") else scale)
            add(scale)
            if name in self._reasons:
                add(self._reasons[name])
        add(self._dialog.get_widget("constrain", Gtk.CheckButton))
        add(self._reasons["constrain"])
        for name, (label, tip, options) in CHOICES.items():
            self._choices[name] = choice = Gtk.ComboBoxText(tooltip_text=_(tip))
            for value, (words, _explanation) in options.items():
                choice.append(value, _(words))
            choice.connect("changed", self._take_choice, name)
            add_named(_(label), choice)
        for words in (self._summary, *self._reasons.values()):
            words.get_style_context().add_class("dim-label")
        return box

    def _meet(self, hello: dict[str, Any]) -> None:
        """The engine is there."""
        self._fill_models(hello["models"])
        self._told.set_text(_("Examining the picture…"))
        assert self._assistant.engine is not None
        picture = seen(self._image, self._layer, self._assistant.engine.file("in"))
        self._assistant.ask({"do": "estimate", **picture}, lambda answer: self._judge(picture, answer))

    def _judge(self, picture: dict[str, Any], estimate: dict[str, Any]) -> None:
        """CaVE has looked at the picture."""
        self._on_grid = estimate["header_qf"] is not None
        words = _("The pixels look like JPEG quality {qf:.0f}.").format(qf=estimate["qf"])
        if self._on_grid:
            words += " " + _("The file was saved at {qf:.0f}.").format(qf=estimate["header_qf"])
        self._told.set_text(words)
        self._preview.connect_engine(self._assistant, picture)
        self._follow()

    def _fill_models(self, models: list[dict[str, Any]]) -> None:
        chosen = self._config.get_property("model")
        self._models = {}
        self._model.handler_block_by_func(self._take_model)
        self._model.remove_all()
        for model in models:
            name = model["name"]
            self._models[name] = model
            self._model.append(name, name)
        self._model.handler_unblock_by_func(self._take_model)
        if chosen not in self._models:
            self._config.set_property("model", next(iter(self._models)))
        self._follow()

    def _take_model(self, box: Gtk.ComboBoxText) -> None:
        if box.get_active_id():
            self._config.set_property("model", box.get_active_id())

    def _take_choice(self, box: Gtk.ComboBoxText, name: str) -> None:
        self._config.set_property(name, box.get_active_id())

    def _take_preset(self, box: Gtk.ComboBoxText) -> None:
        for preset in PRESETS:
            if preset.label == box.get_active_id():
                for name, value in preset.values.items():
                    if name != "model" or value in self._models:
                        self._config.set_property(name, value)

    def _follow(self) -> None:
        """Let everything show what the settings are now."""
        values = values_of(self._config)
        self._model.set_active_id(values["model"])
        own, theirs = SUMMARIES.get(values["model"]), self._models[values["model"]]["summary"]
        self._summary.set_text(_(own) if own else theirs)
        for name, choice in self._choices.items():
            choice.set_active_id(values[name])
        fitting = (p.label for p in PRESETS if all(values[name] == value for name, value in p.values.items()))
        self._preset.handler_block_by_func(self._take_preset)
        self._preset.set_active_id(next(fitting, OWN_VALUES))
        self._preset.handler_unblock_by_func(self._take_preset)
        self._allow(
            "texture",
            "" if self._models[values["model"]].get("texture", True) else _("This model adds no texture."),
        )
        reason = ""
        if self._on_grid is None:
            reason = _("Available once the engine has seen the picture.")
        elif not self._on_grid:
            reason = _("The picture is no longer on a JPEG file's grid: it was cropped, scaled or painted on.")
        elif values["quality"]:
            reason = _("With a manual quality, the file's own cells do not count.")
        self._allow("constrain", reason)
        self._preview.set_settings(values)

    def _allow(self, name: str, reason_against: str) -> None:
        """Grey a control out where there is a reason, which is shown below it."""
        self._dialog.set_sensitive(name, not reason_against, None, None, False)
        self._reasons[name].set_text(reason_against)
        self._reasons[name].set_visible(bool(reason_against))

    def _key(self, _widget: Gtk.Widget, event: Gdk.EventKey) -> bool:
        if event.keyval == Gdk.KEY_F1:
            self._help()
            return True
        return False

    def _response(self, dialog: Gtk.Dialog, response: int) -> None:
        if response == Gtk.ResponseType.HELP:
            dialog.stop_emission_by_name("response")
            self._help()

    def _help(self) -> None:
        try:
            open_page()
        except Refused as error:
            self._preview.say(str(error))


def ask_user(
    procedure: Gimp.Procedure, config: Gimp.ProcedureConfig, image: Gimp.Image, drawables: list[Gimp.Drawable]
) -> Engine | None:
    """Show the dialog for these layers; return the engine to work with, or None if the user went away.

    Raises:
        Refused: a layer cannot be worked on, or there is no engine.
    """
    if not drawables:
        raise Refused(_("Choose a layer."))
    for drawable in drawables:
        check(image, drawable, in_place=False)
    return Dialog(procedure, config, image, drawables[0]).run()
