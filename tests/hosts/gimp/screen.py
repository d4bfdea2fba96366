"""A virtual screen with a window manager, and hands to use it with."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from types import TracebackType

NEEDED = ("Xvfb", "openbox", "xdotool", "import")
PATIENCE = 60.0
SIZE = (1400, 900)


class Screen:
    """Xvfb with openbox."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24", "-nolisten", "tcp"],
            pass_fds=[writer],
            stderr=subprocess.DEVNULL,
        )
        os.close(writer)
        with os.fdopen(reader) as told:
            self.name = f":{told.readline().strip()}"
        self._environment = {**os.environ, "DISPLAY": self.name}
        until = time.monotonic() + PATIENCE
        while not self.do("getdisplaygeometry"):
            assert time.monotonic() < until, "no display"
            time.sleep(0.1)
        self._manager = subprocess.Popen(["openbox"], env=self._environment, stderr=subprocess.DEVNULL)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for program in (self._manager, self._server):
            program.terminate()
            program.wait(10)

    def do(self, *words: str) -> str:
        """Run xdotool."""
        told = subprocess.run(["xdotool", *words], env=self._environment, capture_output=True, text=True, check=False)
        return told.stdout

    def windows(self) -> dict[str, str]:
        """Titles of visible windows by id."""
        found = self.do("search", "--onlyvisible", "--name", ".").split()
        return {window: self.do("getwindowname", window).strip() for window in found}

    def wait_for(self, words: str) -> str:
        """Wait for a window whose title has these words and return its id."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for window, title in self.windows().items():
                if words in title:
                    return window
            time.sleep(0.2)
        raise AssertionError(f"no window {words!r} among {list(self.windows().values())}")

    def keys(self, window: str, *names: str) -> None:
        """Press keys in a window."""
        self.do("windowactivate", "--sync", window)
        for name in names:
            self.do("key", name)
            time.sleep(0.3)

    def picture(self, file: Path, window: str = "root") -> None:
        """Take a screenshot."""
        subprocess.run(["import", "-window", window, str(file)], env=self._environment, check=True)
