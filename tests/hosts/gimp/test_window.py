"""The filter as a person uses it, in GIMP's window on a virtual screen."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.hosts.gimp.client import ROOT, Gimp
from tests.hosts.gimp.screen import NEEDED, SIZE, Screen

PHOTO = ROOT / "examples/photos/shrine-path-q10.jpg"
TITLE = "Remove JPEG Artifacts"
FILTERS, ENHANCE, CANCEL = (427, 33), (470, 158), (1109, 863)
"""Where the menus and the status bar's button are in a window that fills the screen."""


@pytest.fixture
def screen() -> Iterator[Screen]:
    if missing := [program for program in NEEDED if shutil.which(program) is None]:
        pytest.skip(f"needs {', '.join(missing)}: Debian's xvfb, openbox, xdotool and imagemagick")
    with Screen() as screen:
        yield screen


class Window:
    """GIMP with a photo open."""

    def __init__(self, gimp: Gimp, screen: Screen, photo: Path) -> None:
        self.screen = screen
        command = ["dbus-run-session", "--", "gimp", "--no-splash", "--new-instance", "--console-messages", str(photo)]
        self.program = gimp.start(*command, DISPLAY=screen.name)
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.id = screen.wait_for("1 layer)")
        screen.do("windowsize", "--sync", self.id, str(SIZE[0] - 10), str(SIZE[1] - 40))
        screen.do("windowmove", self.id, "0", "0")
        screen.do("mousemove", str(SIZE[0] - 2), str(SIZE[1] - 2))  # no tooltips
        time.sleep(1)

    def _read(self) -> None:
        assert self.program.stdout is not None
        self.lines.extend(self.program.stdout)

    def search(self, words: str) -> None:
        """Start an action by GIMP's command search."""
        self.screen.keys(self.id, "slash")
        self.screen.wait_for("Search Actions")
        self.screen.do("type", "--delay", "30", words)
        time.sleep(1.5)
        self.screen.do("key", "Return")

    def close(self) -> None:
        if self.program.poll() is None:
            os.killpg(self.program.pid, signal.SIGKILL)


@pytest.fixture
def window(gimp: Gimp, screen: Screen, tmp_path: Path) -> Iterator[Window]:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PHOTO.read_bytes())
    window = Window(gimp, screen, photo)
    yield window
    window.close()


def test_dialog_result_undo_and_repeat(window: Window, screen: Screen, shots: Path, gimp: Gimp) -> None:
    window.search(TITLE)
    dialog = screen.wait_for(TITLE)
    time.sleep(1)
    screen.picture(shots / "gimp-dialog.png", dialog)
    screen.keys(dialog, "Return")
    screen.wait_for("2 layers)")
    time.sleep(1)
    screen.picture(shots / "gimp-result.png")
    screen.keys(window.id, "ctrl+z")
    screen.wait_for("1 layer)")  # one step
    screen.keys(window.id, "ctrl+f")
    screen.wait_for("2 layers)")
    assert TITLE not in screen.windows().values()
    window.close()
    gimp.wait_for_engines_end()
    assert not gimp.remains()
    assert not gimp.engines()


def test_the_entry_is_in_the_menu(window: Window, screen: Screen, shots: Path) -> None:
    screen.do("mousemove", *map(str, FILTERS), "click", "1")
    time.sleep(1)
    screen.do("mousemove", *map(str, ENHANCE))
    time.sleep(0.5)
    screen.do("key", "Right")
    time.sleep(1)
    screen.picture(shots / "gimp-menu.png")
    screen.do("key", "j")
    screen.keys(screen.wait_for(TITLE), "Escape")


def test_a_dialog_that_is_closed_changes_nothing(window: Window, screen: Screen) -> None:
    window.search(TITLE)
    screen.keys(screen.wait_for(TITLE), "Escape")
    time.sleep(1)
    titles = screen.windows().values()
    assert any("1 layer)" in title for title in titles)
    assert TITLE not in titles


def test_cancel_in_the_middle_changes_nothing(gimp: Gimp, screen: Screen, shots: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    Image.open(PHOTO).resize((2400, 2400)).save(large, quality=20)
    window = Window(gimp, screen, large)
    try:
        window.search(TITLE)
        screen.keys(screen.wait_for(TITLE), "Return")
        deadline = time.monotonic() + 30
        while not list(gimp.runtime.glob("*/*-in.raw")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2)
        screen.picture(shots / "gimp-progress.png")
        screen.do("mousemove", *map(str, CANCEL), "click", "1")
        deadline = time.monotonic() + 30
        while list(gimp.runtime.glob("*/*.raw")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not list(gimp.runtime.glob("*/*.raw"))
        time.sleep(1)
        assert any("1 layer)" in title for title in screen.windows().values())
        assert not any(title.startswith("*") for title in screen.windows().values())
        assert len(gimp.remains()) == 1  # the engine waits for the next call
    finally:
        window.close()


def test_without_an_engine_the_user_reads_why(gimp: Gimp, screen: Screen, tmp_path: Path) -> None:
    (gimp.user / "environ/codiff-batch.env").unlink()
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PHOTO.read_bytes())
    window = Window(gimp, screen, photo)
    try:
        window.search(TITLE)
        deadline = time.monotonic() + 30
        while "codiff-batch gimp install" not in "".join(window.lines) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "codiff-batch gimp install" in "".join(window.lines)
    finally:
        window.close()
