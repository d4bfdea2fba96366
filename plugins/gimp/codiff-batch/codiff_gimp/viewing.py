"""Pictures in the dialog: the crop before and after with a line between, and a thumbnail to choose it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gi

gi.require_version("Gdk", "3.0")
gi.require_version("Gtk", "3.0")
from gi.repository import Gdk, GdkPixbuf, GLib, Gtk  # noqa: E402

PANE = 288
"""Side of the comparison, in pixels of the screen."""
THUMBNAIL = 160
WHITE, BLACK = 0xFFFFFFFF, 0x000000FF
CHECKS = (8, 0x999999, 0x666666)
STEP = 8
"""Arrow keys move by this many pixels."""


class Touchable(Gtk.EventBox):
    """A picture that is dragged in, by the mouse or the arrow keys."""

    def __init__(self, hint: str, on_drag: Callable[[int, int], Any], on_key: Callable[[int, int], Any]) -> None:
        super().__init__(can_focus=True, tooltip_text=hint)
        self.picture = Gtk.Image(halign=Gtk.Align.CENTER, valign=Gtk.Align.CENTER)
        self.add(self.picture)
        self.get_accessible().set_name(hint)
        self._on_drag, self._on_key = on_drag, on_key
        self.add_events(Gdk.EventMask.BUTTON_PRESS_MASK | Gdk.EventMask.BUTTON1_MOTION_MASK)
        self.connect("button-press-event", self._touch)
        self.connect("motion-notify-event", self._touch)
        self.connect("key-press-event", self._key)

    def _touch(self, _widget: Gtk.Widget, event: Gdk.Event) -> bool:
        self.grab_focus()
        shown = self.picture.get_pixbuf()
        if shown is not None:
            area = self.get_allocation()
            left, top = (area.width - shown.get_width()) // 2, (area.height - shown.get_height()) // 2
            self._on_drag(int(event.x) - left, int(event.y) - top)
        return True

    def _key(self, _widget: Gtk.Widget, event: Gdk.EventKey) -> bool:
        step = {
            Gdk.KEY_Left: (-STEP, 0),
            Gdk.KEY_Right: (STEP, 0),
            Gdk.KEY_Up: (0, -STEP),
            Gdk.KEY_Down: (0, STEP),
        }.get(event.keyval)
        if step is not None:
            self._on_key(*step)
        return step is not None


class Comparison(Touchable):
    """Before on the left of a line, after on its right."""

    def __init__(self, hint: str) -> None:
        super().__init__(hint, lambda x, _y: self.split_at(x), lambda x, _y: self.split_at(self._split + x))
        self.set_size_request(PANE, PANE)
        self._split = PANE // 2
        self._before: GdkPixbuf.Pixbuf | None = None
        self._after: GdkPixbuf.Pixbuf | None = None

    def show_before(self, before: GdkPixbuf.Pixbuf) -> None:
        """Show a crop that is not restored yet."""
        self._before, self._after = before, None
        self._draw()

    def show_after(self, after: GdkPixbuf.Pixbuf) -> None:
        """Show the same crop restored."""
        self._after = after
        self._draw()

    def split_at(self, x: int) -> None:
        """Move the line."""
        self._split = x
        self._draw()

    def _draw(self) -> None:
        if self._before is None:
            return
        if self._after is None:
            self.picture.set_from_pixbuf(self._before)
            return
        width, height = self._before.get_width(), self._before.get_height()
        split = self._split = max(0, min(self._split, width))
        shown = self._after.copy()
        if split:
            self._before.copy_area(0, 0, split, height, shown, 0, 0)
        for x, colour in ((split - 1, BLACK), (split, WHITE), (split + 1, BLACK)):
            if 0 <= x < width:
                shown.new_subpixbuf(x, 0, 1, height).fill(colour)
        self.picture.set_from_pixbuf(shown)


class Chooser(Touchable):
    """The whole layer, small, with a frame around the crop."""

    def __init__(self, hint: str, small: GdkPixbuf.Pixbuf, size: tuple[int, int], on_move: Callable[[], Any]) -> None:
        super().__init__(hint, self._drag, self._step)
        # Pictures with alpha would show the dialog through.
        self._small = small.composite_color_simple(
            small.get_width(), small.get_height(), GdkPixbuf.InterpType.NEAREST, 255, *CHECKS
        )
        self._size, self._on_move = size, on_move
        self._middle = (size[0] / 2, size[1] / 2)
        self._side = PANE

    def look_at(self, middle: tuple[float, float], side: int) -> None:
        """Choose a crop around a point, in pixels of the layer."""
        self._middle, self._side = middle, side
        self._draw()

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """x, y, width, height in the layer."""
        sides = [min(self._side, size) for size in self._size]
        starts = [
            int(max(0, min(middle - side / 2, size - side)))
            for middle, side, size in zip(self._middle, sides, self._size, strict=True)
        ]
        return (*starts, *sides)

    @property
    def middle(self) -> tuple[float, float]:
        """Middle of the crop."""
        x, y, width, height = self.crop
        return x + width / 2, y + height / 2

    def _drag(self, x: int, y: int) -> None:
        scale = self._size[0] / self._small.get_width()
        self._middle = (x * scale, y * scale)
        self._moved()

    def _step(self, x: int, y: int) -> None:
        middle = self.middle
        self._middle = (middle[0] + x * self._side / 32, middle[1] + y * self._side / 32)
        self._moved()

    def _moved(self) -> None:
        self._draw()
        self._on_move()

    def _draw(self) -> None:
        shown = self._small.copy()
        scale = shown.get_width() / self._size[0]
        x, y, width, height = (int(value * scale) for value in self.crop)
        for inset, colour in ((0, BLACK), (1, WHITE)):
            _frame(shown, x + inset, y + inset, width - 2 * inset, height - 2 * inset, colour)
        self.picture.set_from_pixbuf(shown)


def to_pixbuf(rgba: bytes, width: int, height: int, zoom: int) -> GdkPixbuf.Pixbuf:
    """Pixels of sRGB with alpha, four bytes each, over a chequerboard, each pixel ``zoom`` times as wide and high."""
    pixels = GdkPixbuf.Pixbuf.new_from_bytes(
        GLib.Bytes.new(rgba), GdkPixbuf.Colorspace.RGB, True, 8, width, height, 4 * width
    )
    return pixels.composite_color_simple(width * zoom, height * zoom, GdkPixbuf.InterpType.NEAREST, 255, *CHECKS)


def _frame(pixels: GdkPixbuf.Pixbuf, x: int, y: int, width: int, height: int, colour: int) -> None:
    right, bottom = min(x + max(width, 3), pixels.get_width()), min(y + max(height, 3), pixels.get_height())
    x, y = max(0, min(x, right - 1)), max(0, min(y, bottom - 1))
    for rectangle in (
        (x, y, right - x, 1),
        (x, bottom - 1, right - x, 1),
        (x, y, 1, bottom - y),
        (right - 1, y, 1, bottom - y),
    ):
        pixels.new_subpixbuf(*rectangle).fill(colour)
