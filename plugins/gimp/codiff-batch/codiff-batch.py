#!/usr/bin/env python3
"""GIMP 3 plug-in: Filters > Enhance > Remove JPEG Artifacts.

GIMP's own Python has neither numpy nor torch, so this file needs nothing but the standard library and gi. The work
is done by ``codiff-batch serve`` in the user's environment (docs/serve.md), which lives as long as this GIMP, or until
nobody has used it for a while. ``codiff-batch gimp install`` puts this file in its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("Gegl", "0.4")
gi.require_version("Babl", "0.1")
from gi.repository import Babl, Gegl, Gimp, GLib, GObject  # noqa: E402

PROCEDURE = "plug-in-codiff-batch-remove-jpeg-artifacts"
TITLE = "Remove JPEG Artifacts"
PYTHON = "CODIFF_PYTHON"
"""Variable with the interpreter that has codiff-batch; set by a file in GIMP's folder ``environ``."""
GIMPS_OWN = ("PYTHONHOME", "PYTHONPATH", "GI_TYPELIB_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV")
"""Variables that are for GIMP's Python and would break another one."""
START_SECONDS = 60.0


class Refused(Exception):
    """Something that the user can mend; the text is for them."""


# --- The engine: one process for each running GIMP ---


class Engine:
    """A connection to the engine, which is started if it is not there."""

    def __init__(self) -> None:
        self.folder = _private_folder()
        try:
            self._connection = self._connect() or self._start()
        except Refused:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def ask(self, on_progress: Callable[[float], Any] | None = None, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        try:
            self._connection.send_bytes(json.dumps({"id": 1, **request}).encode())
            while True:
                answer = json.loads(self._connection.recv_bytes())
                if answer["event"] == "progress":
                    if on_progress is not None:
                        on_progress(answer["done"] / answer["total"])
                elif answer["event"] == "error":
                    raise Refused(answer["message"])
                else:
                    return answer
        except (EOFError, OSError):
            last_words = self._last_words()
            shutil.rmtree(self.folder, ignore_errors=True)  # in its place
            raise Refused(f"The engine ended unexpectedly.{last_words}") from None

    def file(self, name: str) -> Path:
        """Path for a picture on its way."""
        return self.folder / f"{os.getpid()}-{name}.raw"

    def close(self) -> None:
        """Let the engine go on without us."""
        self._connection.close()
        for name in ("in", "out"):
            self.file(name).unlink(missing_ok=True)

    def _connect(self) -> Connection | None:
        try:
            return Client(_address(self.folder), authkey=(self.folder / "key").read_bytes())
        except (AuthenticationError, EOFError, OSError):
            return None

    def _start(self) -> Connection:
        python = os.environ.get(PYTHON)
        if not python:
            raise Refused(
                "codiff-batch is not set up for this GIMP. Install it (pip install codiff-batch) and run "
                "'codiff-batch gimp install' once, then start GIMP again."
            )
        for left_over in ("socket", "key"):
            (self.folder / left_over).unlink(missing_ok=True)
        (self.folder / "key").write_bytes(os.urandom(32))  # in a folder that nobody else can look into
        command = [python, "-m", "codiff_batch", "serve", "--folder", str(self.folder), "--host", str(os.getppid())]
        environment = {name: value for name, value in os.environ.items() if name not in GIMPS_OWN}
        alone = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
        try:
            with (self.folder / "log").open("w", encoding="utf-8") as log:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, **alone
                )
        except OSError as error:
            raise Refused(
                f"The engine cannot be started: {error}. 'codiff-batch gimp doctor' says how to mend it."
            ) from None
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            connection = self._connect()
            if connection is not None:
                return connection
            if process.poll() is not None:
                break
            time.sleep(0.1)
        raise Refused(
            f"The engine does not start with {python}. 'codiff-batch gimp doctor' says how to mend it."
            + self._last_words()
        )

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = [line for line in (self.folder / "log").read_text("utf-8").splitlines() if line.strip()]
            return "".join("\n" + line for line in lines[-5:])
        return ""


def _private_folder() -> Path:
    """The engine's folder, one for each GIMP, that nobody else can look into."""
    # Not the smaller $XDG_RUNTIME_DIR: a large picture of floats has hundreds of megabytes.
    folder = Path(tempfile.gettempdir()) / f"codiff-batch-gimp-{os.getppid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.name != "nt":
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise Refused(f"{folder} is not a private folder of yours; remove it.")
    return folder


def _address(folder: Path) -> str:
    return rf"\\.\pipe\{folder.name}" if os.name == "nt" else str(folder / "socket")


# --- Pixels: in the layer's own numbers, never converted between colour spaces ---


class Pixels:
    """How a drawable's pixels travel."""

    def __init__(self, drawable: Gimp.Drawable) -> None:
        self.drawable = drawable
        self.width, self.height = drawable.get_width(), drawable.get_height()
        native = Babl.get_name(drawable.get_format())
        model, sample = re.match(r"(\S+) (\S+?)(?:-space-.*)?$", native).groups()
        self.channels = (1 if model.startswith("Y") else 3) + model.endswith("A")
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
        everything = Gegl.Rectangle.new(0, 0, self.width, self.height)
        data = self.drawable.get_buffer().get(everything, 1.0, self._read_as, Gegl.AbyssPolicy.NONE)
        path.write_bytes(data)
        shape = {"width": self.width, "height": self.height, "channels": self.channels, "type": self.type}
        return {"file": str(path), **shape}


def origin(image: Gimp.Image, drawable: Gimp.Drawable, named: str = "") -> dict[str, str]:
    """What is known of the JPEG that an image came from, if the drawable can still be its picture."""
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


# --- The procedure ---


@contextlib.contextmanager
def engine_at_work(words: str) -> Iterator[Engine]:
    """The engine, with a progress bar for as long as it is needed."""
    Gimp.progress_init(words)
    engine = Engine()
    try:
        yield engine
    finally:
        engine.close()
        Gimp.progress_end()


def check(drawables: list[Gimp.Drawable]) -> tuple[Gimp.Drawable, list[int]]:
    """The one layer to work on."""
    if len(drawables) != 1:
        raise Refused("Choose exactly one layer.")
    (drawable,) = drawables
    if not isinstance(drawable, Gimp.Layer):
        raise Refused("Choose a layer; channels and layer masks carry no JPEG artifacts.")
    if drawable.is_group():
        raise Refused("Choose a layer inside the group: a group has no pixels of its own.")
    touched, *region = drawable.mask_intersect()
    if not touched:
        raise Refused("The selection does not touch this layer.")
    return drawable, region


def put(image: Gimp.Image, pixels: Pixels, region: list[int], path: Path, *, in_place: bool) -> None:
    """Put the restored region into the layer or a copy above it; the selection decides how much of it shows."""
    x, y, width, height = region
    drawable, data = pixels.drawable, path.read_bytes()
    image.undo_group_start()
    try:
        target = drawable
        if not in_place:
            target = drawable.copy()
            target.set_name(f"{drawable.get_name()} (JPEG artifacts removed)")
            image.insert_layer(target, drawable.get_parent(), image.get_item_position(drawable))
        shadow = target.get_shadow_buffer()
        shadow.set(Gegl.Rectangle.new(x, y, width, height), pixels.format, data)
        shadow.flush()
        target.merge_shadow(True)
        target.update(x, y, width, height)
        if not in_place:
            image.set_selected_layers([target])
    finally:
        image.undo_group_end()


def restore(image: Gimp.Image, drawable: Gimp.Drawable, region: list[int], settings: dict[str, Any]) -> None:
    """Send the layer to the engine and put back what it returns."""
    with engine_at_work("Removing JPEG artifacts") as engine:
        pixels = Pixels(drawable)
        result = engine.file("out")
        engine.ask(
            do="restore",
            picture=pixels.write(engine.file("in")),
            region=region,
            into=str(result),
            model=settings["model"],
            strength=settings["strength"],
            texture=settings["texture"],
            qf=settings["quality"],
            constrain=settings["constrain"],
            on_progress=Gimp.progress_update,
            **origin(image, drawable, settings["jpeg"]),
        )
        put(image, pixels, region, result, in_place=settings["output"] == "in-place")
    Gimp.displays_flush()


def look(image: Gimp.Image, drawable: Gimp.Drawable) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Ask the engine about the picture and itself, for the dialog."""
    with engine_at_work("Looking at the picture") as engine:
        models = engine.ask(do="hello")["models"]
        Gimp.progress_update(0.3)
        picture = Pixels(drawable).write(engine.file("in"))
        return models, engine.ask(do="estimate", picture=picture, **origin(image, drawable))


def ask_user(
    procedure: Gimp.Procedure, config: Gimp.ProcedureConfig, image: Gimp.Image, drawable: Gimp.Drawable
) -> bool:
    """Show the dialog; tell whether to go on."""
    gi.require_version("GimpUi", "3.0")
    from gi.repository import GimpUi, Gtk

    GimpUi.init(PROCEDURE)
    models, estimate = look(image, drawable)
    names = [model["name"] for model in models]
    if config.get_property("model") not in names:
        config.set_property("model", names[0])
    dialog = GimpUi.ProcedureDialog.new(procedure, config, TITLE)
    words = f"The pixels look like JPEG quality {estimate['qf']:.0f}"
    fits = estimate["header_qf"] is not None
    words += f"; the file was saved at {estimate['header_qf']:.0f}." if fits else "."
    told = Gtk.Label(label=words, xalign=0)
    told.show()
    store = Gtk.ListStore(str, str)
    for model in models:
        store.append([model["name"], f"{model['name']}: {model['summary']}"])
    row = Gtk.Box(spacing=6)
    row.pack_start(Gtk.Label(label="Model"), False, False, 0)
    row.pack_start(GimpUi.prop_string_combo_box_new(config, "model", store, 0, 1), True, True, 0)
    row.show_all()
    for name in ("strength", "texture", "quality"):
        dialog.get_scale_entry(name, 1.0)
    dialog.set_sensitive("constrain", fits, None, None, False)
    dialog.fill(["strength", "texture", "quality", "output", "constrain"])
    area = dialog.get_content_area()
    for position, widget in enumerate((told, row)):
        area.pack_start(widget, False, False, 6)
        area.reorder_child(widget, position)
    agreed: bool = dialog.run()
    dialog.destroy()
    return agreed


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
        drawable, region = check(drawables)
        if run_mode == Gimp.RunMode.INTERACTIVE and not ask_user(procedure, config, image, drawable):
            return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, GLib.Error())
        names = ("model", "strength", "texture", "quality", "output", "constrain", "jpeg")
        restore(image, drawable, region, {name: config.get_property(name) for name in names})
    except (Refused, OSError) as error:
        reason = GLib.Error.new_literal(Gimp.PlugIn.error_quark(), str(error), 0)
        return procedure.new_return_values(Gimp.PDBStatusType.EXECUTION_ERROR, reason)
    return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, GLib.Error())


class CodiffBatch(Gimp.PlugIn):
    """The plug-in as GIMP knows it."""

    def do_query_procedures(self) -> list[str]:
        """Names of the procedures."""
        return [PROCEDURE]

    def do_set_i18n(self, name: str) -> bool:
        """No catalogues of translations."""
        return False

    def do_create_procedure(self, name: str) -> Gimp.Procedure:
        """Menu entry, documentation, arguments."""
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, run, None)
        procedure.set_image_types("RGB*, GRAY*")
        procedure.set_sensitivity_mask(Gimp.ProcedureSensitivityMask.DRAWABLE)
        procedure.set_menu_label("Remove _JPEG Artifacts…")
        procedure.add_menu_path("<Image>/Filters/Enhance")
        procedure.set_documentation(
            "Remove JPEG artifacts from a photo in one diffusion step",
            "Restores what JPEG compression did to a layer, within the selection. Colours are not converted. If the "
            "picture still lies on its JPEG's grid, the file's own quantization tables guide and bound the result.",
            name,
        )
        procedure.set_attribution("codiff-batch", "codiff-batch", "2026")
        flags = GObject.ParamFlags.READWRITE
        procedure.add_string_argument("model", "_Model", "Name of a model of codiff-batch", "compact", flags)
        procedure.add_double_argument(
            "strength", "S_trength", "0 changes nothing, 1 restores fully", 0.0, 1.0, 1.0, flags
        )
        procedure.add_double_argument(
            "texture",
            "Te_xture",
            "How much of its texture the model natural adds; 0 is its faithful restoration. Others have none",
            0.0,
            1.0,
            1.0,
            flags,
        )
        procedure.add_double_argument(
            "quality",
            "JPEG _quality (0: automatic)",
            "How hard the picture was compressed, 1 to 100; 0 lets the file and the pixels tell",
            0.0,
            100.0,
            0.0,
            flags,
        )
        output = Gimp.Choice.new()
        output.add("new-layer", 0, "New layer", "A restored copy above the layer")
        output.add("in-place", 1, "In place", "Change this layer")
        procedure.add_choice_argument("output", "Resu_lt", "Where the result goes", output, "new-layer", flags)
        procedure.add_boolean_argument(
            "constrain",
            "Keep _within the JPEG's quantization cells",
            "Only what would have given the very same JPEG; where the picture still lies on its file's grid",
            True,
            flags,
        )
        procedure.add_string_argument(
            "jpeg",
            "JPEG _file",
            "For scripts: the file that the image was loaded from, which GIMP does not tell",
            "",
            flags,
        )
        return procedure


Gimp.main(CodiffBatch.__gtype__, sys.argv)
