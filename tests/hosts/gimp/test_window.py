"""The filter as a person uses it, in GIMP's window on a virtual screen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.hosts.gimp.client import ROOT, Gimp
from tests.hosts.gimp.screen import SIZE, Screen

PHOTO = ROOT / "examples/photos/shrine-path-q10.jpg"
TITLE = "Remove JPEG Artifacts"
FILTERS, ENHANCE, CANCEL = (427, 33), (470, 158), (1109, 863)
"""Where the menus and the status bar's button are in a window that fills the screen."""
PREVIEW = (18, 41, 306, 329)
"""Left, top, right, bottom of the comparison in the dialog."""
EDITS = {
    "edited": "image.select_rectangle(2, 10, 10, 9, 9); layer.edit_fill(0); Gimp.Selection.none(image)",
    "resized or turned": "layer.scale(256, 500, False)",
    "moved": "layer.set_offsets(5, 0)",
    "removed": "image.remove_layer(layer)",
    "selection was changed": "image.select_rectangle(2, 10, 10, 400, 400)",
    "mode or profile": "image.convert_grayscale()",
    "image was closed": "close_all()",
}
"""What a person does while the filter works, by what it says then."""


class Window:
    """GIMP's window with a photo open in it."""

    def __init__(self, gimp: Gimp, screen: Screen, photo: Path) -> None:
        self.gimp, self.screen = gimp, screen
        gimp.lines.clear()
        gimp.run(f'show("{photo}")')
        self.id = screen.wait_for("1 layer)")
        screen.do("windowsize", "--sync", self.id, str(SIZE[0] - 10), str(SIZE[1] - 40))
        screen.do("windowmove", self.id, "0", "0")
        self.move_pointer_away()
        time.sleep(1)

    def move_pointer_away(self) -> None:
        """No tooltips."""
        self.screen.do("mousemove", str(SIZE[0] - 2), str(SIZE[1] - 2))

    def search(self, words: str) -> None:
        """Start an action by GIMP's command search."""
        self.screen.keys(self.id, "slash")
        self.screen.wait_for("Search Actions")
        self.screen.do("type", "--delay", "30", words)
        time.sleep(1.5)
        self.screen.do("key", "Return")

    def ask(self) -> str:
        """Open the dialog."""
        self.search(TITLE)
        return self.screen.wait_for(TITLE)

    def begin_work(self, dialog: str) -> None:
        """Press OK and wait until the layer was read and is on its way to the engine."""
        self.gimp.wait(lambda: list(self.gimp.runtime.glob("*/*-preview-*.raw")), "the preview")
        (sent,) = self.gimp.runtime.glob("*/*-in.raw")
        before = sent.stat().st_mtime_ns
        self.screen.keys(dialog, "Return")
        self.gimp.wait(lambda: sent.stat().st_mtime_ns != before, "the work")

    def said(self, words: str) -> None:
        """Wait until GIMP prints a message."""
        self.gimp.wait(lambda: words in "".join(self.gimp.lines), repr(words))

    def is_unchanged(self) -> bool:
        """Return True if the image has its one layer and nothing to undo."""
        titles = self.screen.windows().values()
        return any("1 layer)" in title for title in titles) and not any(title.startswith("*") for title in titles)


@pytest.fixture
def window(gimp: Gimp, screen: Screen) -> Iterator[Window]:
    photo = gimp.folder / "photo.jpg"
    photo.write_bytes(PHOTO.read_bytes())
    yield Window(gimp, screen, photo)
    screen.do("key", "Escape", "Escape", "Escape")  # a menu that a test left open


def preview(screen: Screen, dialog: str, file: Path) -> np.ndarray:
    """What the dialog shows of the picture."""
    screen.picture(file, dialog)
    with Image.open(file) as shown:
        return np.asarray(shown.convert("RGB").crop(PREVIEW)).astype(int)


def wait_for_preview(window: Window, screen: Screen, dialog: str, file: Path, before: np.ndarray) -> np.ndarray:
    """Wait until the right side is another picture than before."""
    found = []

    def is_there() -> bool:
        found.append(preview(screen, dialog, file))
        return np.abs(found[-1] - before)[:, 160:].mean() > 1

    window.gimp.wait(is_there, "the preview")
    return found[-1]


def test_the_entry_is_in_the_menu(window: Window, screen: Screen, shots: Path) -> None:
    """First, before the filter is in the menu of those that were used."""
    screen.do("mousemove", *map(str, FILTERS), "click", "1")
    time.sleep(1)
    screen.do("mousemove", *map(str, ENHANCE))
    time.sleep(0.5)
    screen.do("key", "Right")
    time.sleep(1)
    screen.picture(shots / "gimp-menu.png")
    screen.do("key", "j")
    screen.keys(screen.wait_for(TITLE), "Escape")


def test_the_dialog_previews_and_the_result_is_one_undo_step(
    window: Window, screen: Screen, shots: Path, gimp: Gimp
) -> None:
    dialog = window.ask()
    time.sleep(0.5)
    source = preview(screen, dialog, shots / "gimp-dialog-starting.png")
    both = wait_for_preview(window, screen, dialog, shots / "gimp-dialog.png", source)
    assert np.array_equal(both[:, :140], source[:, :140])  # left of the line nothing changes
    screen.do("mousemove", "--window", dialog, "40", "200", "click", "1")
    window.move_pointer_away()
    time.sleep(0.5)
    moved = preview(screen, dialog, shots / "gimp-dialog-split.png")
    assert np.abs(moved - source)[:, 40:140].mean() > 1
    screen.keys(dialog, "alt+2")
    time.sleep(1)
    twice = preview(screen, dialog, shots / "gimp-dialog-200.png")[:, 40:]  # right of the line
    assert np.array_equal(twice[::2, ::2], twice[1::2, 1::2])
    screen.keys(dialog, "alt+1", "Return")
    screen.wait_for("2 layers)")
    time.sleep(1)
    screen.picture(shots / "gimp-result.png")
    screen.keys(window.id, "ctrl+z")
    screen.wait_for("1 layer)")  # one step
    screen.keys(window.id, "ctrl+f")
    screen.wait_for("2 layers)")
    assert TITLE not in screen.windows().values()
    gimp.run("(image,) = Gimp.get_images(); image.set_selected_layers(image.get_layers())")
    screen.keys(window.id, "ctrl+f")
    screen.wait_for("4 layers)")
    screen.keys(window.id, "ctrl+z")
    screen.wait_for("2 layers)")  # both in one step


@pytest.mark.parametrize("words", EDITS)
def test_an_edit_made_while_the_filter_works_stays_and_nothing_is_written(
    window: Window, screen: Screen, gimp: Gimp, words: str
) -> None:
    window.begin_work(window.ask())
    told = gimp.run(f"""
(image,) = Gimp.get_images()
(layer,) = image.get_layers()
stop("codiff_batch", "serve")
{EDITS[words]}
layers = [layer for image in Gimp.get_images() for layer in image.get_layers()]
for layer in layers:
    keep(layer, "edited")
go_on("codiff_batch", "serve")
tell(layers=len(layers))
""")
    window.said(words)
    after = gimp.run("""
layers = [layer for image in Gimp.get_images() for layer in image.get_layers()]
for layer in layers:
    keep(layer, "after")
tell(layers=len(layers))
""")
    assert after == told
    if told["layers"]:
        assert (gimp.folder / "after").read_bytes() == (gimp.folder / "edited").read_bytes()


def test_presets_set_their_values_and_what_does_nothing_is_greyed_out_with_a_reason(gimp: Gimp, screen: Screen) -> None:
    """The dialog itself, in GIMP, on a photo whose file it knows."""
    told = gimp.run(f"""
sys.path.insert(0, str(FOLDER / "gimp/plug-ins/codiff-batch"))
from codiff_gimp.dialog import Dialog
from codiff_gimp.presets import PRESETS
from gi.repository import GLib, Gtk

image = load("{PHOTO}")
procedure = Gimp.get_pdb().lookup_procedure("plug-in-codiff-batch-remove-jpeg-artifacts")
config = procedure.create_config()
dialog = Dialog(procedure, config, image, image.get_layers()[0])
widgets = {{
    "texture": dialog._dialog.get_scale_entry("texture", 1.0),
    "constrain": dialog._dialog.get_widget("constrain", Gtk.CheckButton),
}}

def state(name):
    reason = dialog._reasons[name]
    return [widgets[name].get_sensitive(), reason.get_visible(), reason.get_text()]

def look():
    while GLib.MainContext.default().iteration(False):
        pass
    return [state("texture"), state("constrain")]

starting = look()
while dialog._on_grid is None:
    GLib.MainContext.default().iteration(True)
there = look()
presets = {{}}
for preset in PRESETS:
    dialog._preset.set_active_id(preset.label)
    now = {{name: config.get_property(name) for name in preset.values}}
    presets[preset.label] = [now, preset.values, dialog._preset.get_active_id()]
config.set_property("strength", 0.33)
own = dialog._preset.get_active_id()
dialog._model.set_active_id("fast")
fast = look()
dialog._preset.set_active_id(PRESETS[0].label)
compact = look()
config.set_property("quality", 30.0)
by_hand = look()
dialog._assistant.leave().close()
dialog._dialog.destroy()
tell(starting=starting, there=there, presets=presets, own=own, fast=fast, compact=compact, by_hand=by_hand)
""")
    yes = [True, False, ""]
    assert told["starting"] == [yes, [False, True, "Available once the engine has seen the picture."]]
    assert told["there"] == told["compact"] == [yes, yes]
    assert told["fast"] == [[False, True, "This model adds no texture."], yes]
    assert told["by_hand"] == [yes, [False, True, "With a manual quality, the file's own cells do not count."]]
    assert len(told["presets"]) == 5
    for label, (now, wanted, shown) in told["presets"].items():
        assert now == wanted, label
        assert shown == label
    assert told["own"] == "own"


def test_a_second_images_dialog_does_not_wait_for_the_first_images_work(
    gimp: Gimp, screen: Screen, shots: Path
) -> None:
    large = gimp.folder / "large.jpg"
    Image.open(PHOTO).resize((2400, 2400)).save(large, quality=20)
    first = Window(gimp, screen, large)
    first.begin_work(first.ask())
    gimp.run(f'show("{PHOTO}")')
    first.id = screen.wait_for("512x512")
    dialog = first.ask()
    source = preview(screen, dialog, shots / "gimp-second.png")
    wait_for_preview(first, screen, dialog, shots / "gimp-second.png", source)
    assert not any("2 layers)" in title for title in screen.windows().values())  # the first is still at work
    assert len(list(gimp.runtime.glob("*/*-in.raw"))) == 2
    screen.keys(dialog, "Escape")
    gimp.run("stop_work()")


def test_a_dialog_that_is_closed_changes_nothing(window: Window, screen: Screen) -> None:
    screen.keys(window.ask(), "Escape")
    time.sleep(1)
    assert window.is_unchanged()
    assert TITLE not in screen.windows().values()


def test_f1_opens_the_plug_ins_own_page(window: Window, screen: Screen, gimp: Gimp) -> None:
    """In what the user has chosen for web pages; here a script that writes down what it was given."""
    opened = gimp.folder / "opened"
    browser = gimp.folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    applications = gimp.folder / ".local/share/applications"
    applications.mkdir(parents=True, exist_ok=True)
    (applications / "browser.desktop").write_text(
        f"[Desktop Entry]\nType=Application\nName=Browser\nExec={browser} %u\nMimeType=text/html;\n"
    )
    (applications / "mimeapps.list").write_text("[Default Applications]\ntext/html=browser.desktop\n")
    dialog = window.ask()
    screen.keys(dialog, "F1")
    gimp.wait(opened.exists, "the page")
    time.sleep(0.2)
    assert opened.read_text().strip().endswith("plug-ins/codiff-batch/help/en.html")
    screen.keys(dialog, "Escape")


def test_cancel_in_the_middle_changes_nothing(gimp: Gimp, screen: Screen, shots: Path) -> None:
    large = gimp.folder / "large.jpg"
    Image.open(PHOTO).resize((2400, 2400)).save(large, quality=20)
    window = Window(gimp, screen, large)
    window.begin_work(window.ask())
    time.sleep(2)
    screen.picture(shots / "gimp-progress.png")
    screen.do("mousemove", *map(str, CANCEL), "click", "1")
    gimp.wait(lambda: not list(gimp.runtime.glob("*/*.raw")), "the end of the work")
    time.sleep(1)
    assert window.is_unchanged()
    assert len(gimp.remains()) == 1  # the engine waits for the next call


def test_a_german_gimp_with_a_long_temporary_folder_speaks_german_and_its_engine_goes_with_it(
    gimp_root: Path, screen: Screen, shots: Path, tmp_path: Path
) -> None:
    gimp = Gimp(gimp_root, tmp_path, tmp_path / "/".join(["a-long-name-of-a-folder"] * 6))
    gimp.command_line("install")
    gimp.open(screen, LANG="de_DE.UTF-8")
    try:
        gimp.run(f'show("{PHOTO}")')
        window = screen.wait_for("1 Ebene)")
        screen.keys(window, "slash")
        screen.wait_for("Akt")
        screen.do("type", "--delay", "30", "JPEG-Artefakte")
        time.sleep(1.5)
        screen.do("key", "Return")
        screen.do("mousemove", str(SIZE[0] - 2), str(SIZE[1] - 2))
        dialog = screen.wait_for("JPEG-Artefakte entfernen")
        gimp.wait(lambda: list(gimp.runtime.glob("*/*-preview-*.raw")), "the preview")
        time.sleep(1)
        screen.picture(shots / "gimp-dialog-german.png", dialog)
        assert gimp.remains()
    finally:
        gimp.kill()
    gimp.wait_for_engines_end()
    assert not gimp.remains()
    assert not gimp.engines()
