"""A layer's pixels: in its own numbers on the way to the engine, in the screen's for the dialog."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("Gegl", "0.4")
gi.require_version("Babl", "0.1")
from gi.repository import Babl, Gegl, Gimp  # noqa: E402


class Pixels:
    """How a layer's pixels travel: never converted between colour spaces."""

    def __init__(self, drawable: Gimp.Drawable) -> None:
        self.drawable = drawable
        self.width, self.height = drawable.get_width(), drawable.get_height()
        native = Babl.get_name(drawable.get_format())
        model, sample = re.match(r"(\S+) (\S+?)(?:-space-.*)?$", native).groups()
        self.alpha = model.endswith("A")
        self.channels = (1 if model.startswith("Y") else 3) + self.alpha
        if sample in ("u8", "u16", "float") and "'" in model:
            self.format, self.type = native, sample
            self._read_as = None
        else:
            # Linear light, or a rarer depth: floats with the same primaries and a perceptual curve, which GIMP
            # turns back by itself.
            perceptual = {1: "Y' float", 2: "Y'A float", 3: "R'G'B' float", 4: "R'G'B'A float"}[self.channels]
            space = Babl.format_get_space(drawable.get_format())
            self.format = Babl.get_name(Babl.format_with_space(perceptual, space))
            self.type, self._read_as = "float", self.format

    def write(self, path: Path) -> dict[str, Any]:
        """Write all pixels into a file and return what the engine needs to know about it."""
        path.write_bytes(self.read(0, 0, self.width, self.height))
        shape = {"width": self.width, "height": self.height, "channels": self.channels, "type": self.type}
        return {"file": str(path), **shape}

    def read(self, x: int, y: int, width: int, height: int) -> bytes:
        """A rectangle's values in :attr:`format`."""
        rectangle = Gegl.Rectangle.new(x, y, width, height)
        return self.drawable.get_buffer().get(rectangle, 1.0, self._read_as, Gegl.AbyssPolicy.NONE)

    def put_back(self, data: bytes, x: int, y: int, width: int, height: int) -> None:
        """Set a rectangle's values, whatever is selected; no undo step is made."""
        buffer = self.drawable.get_buffer()
        buffer.set(Gegl.Rectangle.new(x, y, width, height), self.format, data)
        buffer.flush()
        self.drawable.update(x, y, width, height)

    def for_screen(self, data: bytes, width: int, height: int) -> bytes:
        """Values in :attr:`format` as 8-bit sRGB with alpha, four bytes a pixel."""
        everything = Gegl.Rectangle.new(0, 0, width, height)
        buffer = Gegl.Buffer.new(self.format, 0, 0, width, height)
        buffer.set(everything, self.format, data)
        return buffer.get(everything, 1.0, "R'G'B'A u8", Gegl.AbyssPolicy.NONE)


def selected(image: Gimp.Image, drawable: Gimp.Drawable, x: int, y: int, width: int, height: int) -> bytes:
    """How much of each pixel of a layer's rectangle is selected, one byte a pixel."""
    if Gimp.Selection.is_empty(image):
        return b"\xff" * (width * height)
    _, left, top = drawable.get_offsets()
    rectangle = Gegl.Rectangle.new(x + left, y + top, width, height)
    return image.get_selection().get_buffer().get(rectangle, 1.0, "Y u8", Gegl.AbyssPolicy.NONE)


def origin(image: Gimp.Image, drawable: Gimp.Drawable, named: str = "") -> dict[str, str]:
    """What is known of the JPEG that an image came from, if the layer can still be its picture."""
    _, left, top = drawable.get_offsets()
    same_size = (drawable.get_width(), drawable.get_height()) == (image.get_width(), image.get_height())
    if (left, top) != (0, 0) or not same_size:
        return {}
    told = {}
    file = image.get_imported_file() or image.get_file()
    path = named or (file.get_path() if file is not None else None) or ""
    if path.lower().endswith((".jpg", ".jpeg", ".jpe", ".jfif")):
        told["jpeg"] = path
    parasite = image.get_parasite("jpeg-settings")
    if parasite is not None:
        told["jpeg_settings"] = bytes(value & 255 for value in parasite.get_data()).hex()
    return told
