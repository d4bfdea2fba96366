"""A daemon as a process, for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests import warm

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0


class Watched:
    """A daemon at work on a folder, and what it has logged."""

    def __init__(
        self,
        folder: Path,
        *arguments: object,
        model: Path,
        environment: dict[str, str] | None = None,
        folders: tuple[Path, ...] = (),
        before: tuple[str, ...] = (),
        cold: bool = False,
    ) -> None:
        self.folder, self.out = folder / "in", folder / "out"
        self.folder.mkdir(exist_ok=True)
        watched = map(str, folders or (self.folder,))
        command = [*before, *warm.program(cold=cold), "watch", *watched, "-o", str(self.out), "--log-json"]
        command += ["--model", str(model), *map(str, arguments)]
        self.program = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        )
        self.lines: list[dict[str, object]] = []
        self.raw: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.program.stderr is not None
        for line in self.program.stderr:
            self.raw.append(line)
            if line.startswith("{"):
                self.lines.append(json.loads(line))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, self.raw
            assert self.program.poll() is None, self.raw
            time.sleep(0.05)

    def said(self, words: str) -> int:
        """How often it has logged something."""
        return sum(words in str(line["message"]) for line in list(self.lines))

    def wait_until_watching(self) -> None:
        self.wait_for(lambda: self.said("watching") > 0)

    def outcomes(self) -> Counter[str]:
        return Counter(Path(str(line["source"])).name for line in list(self.lines) if "source" in line)

    def last(self, name: str) -> str:
        """The latest outcome of a photo, with its reason."""
        lines = [line for line in self.lines if "source" in line and Path(str(line["source"])).name == name]
        return f"{lines[-1]['outcome']}: {lines[-1]['reason']}" if lines else ""

    def wait_for_outcomes(self, count: int) -> None:
        # Of thousands of lines the names are looked at only once there may be enough.
        self.wait_for(lambda: len(self.lines) >= count and len(self.outcomes()) >= count)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.program.send_signal(number)
        code = self.program.wait(PATIENCE)
        self._reader.join(5)
        return code
