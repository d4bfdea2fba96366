"""The dialog's left side: a crop as it is and as it will be, restored by the engine while settings change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("Gtk", "3.0")
from gi.repository import Gimp, GLib, Gtk  # noqa: E402

from codiff_gimp.assistant import Assistant  # noqa: E402
from codiff_gimp.pixels import Pixels, selected  # noqa: E402
from codiff_gimp.texts import _  # noqa: E402
from codiff_gimp.viewing import PANE, THUMBNAIL, Chooser, Comparison, to_pixbuf  # noqa: E402
from codiff_gimp.work import asked  # noqa: E402

PAUSE_MS = 120
"""How long settings must rest before the engine is asked."""


class Preview(Gtk.Box):
    """Comparison, thumbnail, zoom and a line about the state of things."""

    def __init__(self, image: Gimp.Image, layer: Gimp.Layer, region: tuple[int, int, int, int]) -> None:
        super().__init__(orientation=Gtk.Orientation.VERTICAL, spacing=6)
        self._image, self._layer, self._pixels = image, layer, Pixels(layer)
        self._assistant: Assistant | None = None
        self._seen: dict[str, Any] = {}
        self._settings: dict[str, Any] = {}
        self._timer = 0
        self._serial = 0
        self._comparison = Comparison(_("Drag the line: before on the left, after on the right"))
        size = (layer.get_width(), layer.get_height())
        scale = THUMBNAIL / max(size)
        small = layer.get_thumbnail(*(max(1, round(side * scale)) for side in size), Gimp.PixbufTransparency.KEEP_ALPHA)
        self._chooser = Chooser(_("Drag to choose what the preview shows"), small, size, self._refresh)
        self._zoom = Gtk.RadioButton.new_with_mnemonic(None, _("_100 %"))
        twice = Gtk.RadioButton.new_with_mnemonic_from_widget(self._zoom, _("_200 %"))
        self._zoom.connect("toggled", lambda _button: self._zoomed())
        self._state = Gtk.Label(xalign=0, wrap=True, max_width_chars=30, width_chars=30)
        zooms = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=3, valign=Gtk.Align.CENTER)
        zooms.pack_start(self._zoom, False, False, 0)
        zooms.pack_start(twice, False, False, 0)
        below = Gtk.Box(spacing=12)
        below.pack_start(self._chooser, False, False, 0)
        below.pack_start(zooms, False, False, 0)
        captions = Gtk.Box()
        captions.pack_start(Gtk.Label(label=_("Before"), xalign=0), True, True, 0)
        captions.pack_start(Gtk.Label(label=_("After"), xalign=1), False, False, 0)
        for widget in (captions, self._comparison, below, self._state):
            self.pack_start(widget, False, False, 0)
        x, y, width, height = region
        self._chooser.look_at((x + width / 2, y + height / 2), PANE)
        self._refresh()
        self.show_all()

    def say(self, words: str) -> None:
        """Show a line about the state of things."""
        self._state.set_text(words)

    def connect_engine(self, assistant: Assistant, seen: dict[str, Any]) -> None:
        """Restore crops from now on; ``seen`` is the layer as the engine reads it."""
        self._assistant, self._seen = assistant, seen
        self._refresh()

    def set_settings(self, settings: dict[str, Any]) -> None:
        """Restore with these settings from now on."""
        if settings != self._settings:
            self._settings = settings
            self._ask_soon()

    def _zoomed(self) -> None:
        self._chooser.look_at(self._chooser.middle, PANE // self._magnification)
        self._refresh()

    @property
    def _magnification(self) -> int:
        return 1 if self._zoom.get_active() else 2

    def _refresh(self) -> None:
        """Show the crop at once as it is, and ask for what it will be."""
        crop = self._chooser.crop
        self._before = self._pixels.for_screen(self._pixels.read(*crop), *crop[2:])
        self._comparison.show_before(to_pixbuf(self._before, *crop[2:], self._magnification))
        self._ask_soon()

    def _ask_soon(self) -> None:
        if self._timer:
            GLib.source_remove(self._timer)
        self._timer = GLib.timeout_add(PAUSE_MS, self._ask)

    def _ask(self) -> bool:
        self._timer = 0
        if self._assistant is not None and self._assistant.engine is not None and self._settings:
            self._serial += 1
            crop, into = self._chooser.crop, self._assistant.engine.file(f"preview-{self._serial % 2}")
            question = {"do": "preview", "region": crop, "into": str(into), **self._seen, **asked(self._settings)}
            self.say(_("Restoring the crop…"))
            self._assistant.preview(question, lambda _answer: self._show(crop, into))
        return GLib.SOURCE_REMOVE

    def _show(self, crop: tuple[int, int, int, int], file: Path) -> None:
        if crop != self._chooser.crop:
            return
        after = bytearray(self._pixels.for_screen(file.read_bytes(), *crop[2:]))
        before = self._before
        chosen = selected(self._image, self._layer, *crop)
        if chosen.count(255) != len(chosen):
            after = _mixed(before, after, chosen)
        self._comparison.show_after(to_pixbuf(bytes(after), *crop[2:], self._magnification))
        self.say("")


def _mixed(before: bytes, after: bytearray, chosen: bytes) -> bytearray:
    """What of ``after`` a selection lets through; four bytes a pixel in both, one in the selection."""
    mixed = bytearray(before)
    for pixel, share in enumerate(chosen):
        if share:
            for place in range(4 * pixel, 4 * pixel + 4):
                mixed[place] = (before[place] * (255 - share) + after[place] * share + 127) // 255
    return mixed
