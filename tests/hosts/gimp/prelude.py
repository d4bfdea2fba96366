"""What scripts inside GIMP begin with."""

import json
import os
import signal
import sys  # noqa: F401 - scripts use it
import threading
import time
import traceback
from pathlib import Path

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("Gegl", "0.4")
from gi.repository import Gegl, Gimp, Gio  # noqa: E402

FOLDER = Path(os.environ["CODIFF_TEST_FOLDER"])
DEFAULTS = {
    "model": "compact",
    "strength": 1.0,
    "texture": 0.7,
    "quality": 0.0,
    "output": "new-layer",
    "scope": "selected-layers",
    "constrain": True,
    "jpeg": "",
}


def load(path):
    return Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, Gio.File.new_for_path(path))


def values(drawable):
    buffer = drawable.get_buffer()
    extent = Gegl.Rectangle.new(0, 0, drawable.get_width(), drawable.get_height())
    return bytes(buffer.get(extent, 1.0, None, Gegl.AbyssPolicy.NONE))


def keep(drawable, name):
    (FOLDER / name).write_bytes(values(drawable))


def remove_artifacts(image, drawables, run_mode=Gimp.RunMode.NONINTERACTIVE, **options):
    """Return the error, or None."""
    procedure = Gimp.get_pdb().lookup_procedure("plug-in-codiff-batch-remove-jpeg-artifacts")
    config = procedure.create_config()
    config.set_property("run-mode", run_mode)
    config.set_property("image", image)
    config.set_core_object_array("drawables", drawables)
    # A fresh config has the values of the last call.
    for name, value in {**DEFAULTS, **options}.items():
        config.set_property(name.replace("_", "-"), value)
    result = procedure.run(config)
    if result.index(0) == Gimp.PDBStatusType.SUCCESS:
        return None
    return Gimp.get_pdb().get_last_error()


def processes(*words):
    """Process ids whose command line has all these words."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if all(word in command for word in (*words, str(FOLDER))):
            found.append(int(process.name))
    return found


def stop(*words):
    """Let processes stand still."""
    for process in processes(*words):
        os.kill(process, signal.SIGSTOP)


def go_on(*words):
    """Let them go on."""
    for process in processes(*words):
        os.kill(process, signal.SIGCONT)


def stop_work():
    """As the user does by Cancel in the status bar."""
    for process in processes("codiff-batch.py"):
        os.kill(process, signal.SIGKILL)


def kill_at_work(*words):
    """Kill a process in a while, as soon as a picture is on its way to the engine and has been for a second."""

    def wait():
        while not list((FOLDER / "run").glob("*/*-in.raw")):
            time.sleep(0.05)
        time.sleep(1)
        for process in processes(*words):
            os.kill(process, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def close_all():
    """Close every image, shown or not."""
    for number in range(1, 100):
        if Gimp.Display.id_is_valid(number):
            Gimp.Display.get_by_id(number).delete()
    for image in Gimp.get_images():
        image.delete()


def show(path):
    """Open a file as the user does, who sees it."""
    image = load(path)
    image.undo_enable()
    Gimp.Display.new(image)
    image.clean_all()
    return image


def tell(**what):
    """Give values to the test."""
    told.update(what)


told = {}
number = 0
while True:
    script = FOLDER / f"script-{number + 1}.py"
    if not script.exists():
        time.sleep(0.02)
        continue
    number, told = number + 1, {}
    try:
        exec(script.read_text())
    except Exception:
        told["traceback"] = traceback.format_exc()
    (FOLDER / "told").write_text(json.dumps(told))
    (FOLDER / "told").rename(FOLDER / f"told-{number}.json")
