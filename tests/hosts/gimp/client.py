"""A GIMP in a file system of its own, started with the plug-in as ``codiff-batch gimp install`` leaves it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from tests import warm
from tests.hosts.gimp.screen import Screen

ROOT = Path(__file__).resolve().parents[3]
PRELUDE = Path(__file__).with_name("prelude.py")
PATIENCE = 180.0


class Gimp:
    """GIMP with a user folder of its own, in the test's folder; that is what both sides see under one path."""

    def __init__(self, root: Path, folder: Path, runtime: Path | None = None) -> None:
        self.root, self.folder = root, folder
        self.user = folder / "gimp"
        self.user.mkdir(parents=True)
        (self.user / "gimprc").write_text(
            '(config-version "3.0.4")\n(check-updates no)\n(show-welcome-dialog no)\n(metadata-rotation-policy keep)\n'
        )
        self.runtime = runtime or folder / "run"
        """Where the engine's folder lies, in place of /tmp."""
        self.runtime.mkdir(mode=0o700, parents=True)
        self.current = folder / "downloads"
        """Where GIMP is started: whatever lies there is not the engine's."""
        self.current.mkdir()
        (self.current / "click.py").write_text("raise SystemExit('a module of the current folder was imported')\n")
        self.program: subprocess.Popen[str] | None = None
        self.lines: list[str] = []
        """What GIMP printed."""
        self._scripts = 0

    def command_line(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``codiff-batch gimp …`` for this GIMP."""
        command = [*warm.program(), "gimp", *arguments, "--gimp-dir", str(self.user)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a program inside, with nothing of this process's environment but what is named.

        The mounts are in a namespace that ends with the program.
        """
        packages = [path for path in sys.path if path.endswith("site-packages")]
        seen = {str(self.folder), str(ROOT), sys.prefix, sys.base_prefix, *packages}
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "GIMP3_DIRECTORY": str(self.user),
            "TMPDIR": str(self.runtime),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            **{name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ},
            **variables,
        }
        inside = f"mount -t proc proc {self.root}/proc;"
        for path in sorted(seen):
            place = shlex.quote(f"{self.root}{path}")
            inside += f"mkdir -p {place}; mount --bind {shlex.quote(path)} {place};"
        for device in ("null", "urandom", "random", "zero"):
            inside += f"touch {self.root}/dev/{device}; mount --bind /dev/{device} {self.root}/dev/{device};"
        words = [f"{name}={value}" for name, value in environment.items()]
        words.insert(0, f"--chdir={self.current}")
        inside += f"exec chroot {shlex.quote(str(self.root))} /usr/bin/env -i {shlex.join([*words, *command])}"
        return subprocess.Popen(
            ["unshare", "-m", "bash", "-ec", inside],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def open(self, screen: Screen | None = None, **variables: str) -> None:
        """Start GIMP, in a window or without one; it runs the scripts that :meth:`run` hands over."""
        assert self.program is None or self.program.poll() is not None
        file = self.folder / "prelude.py"
        file.write_text(PRELUDE.read_text())
        command = ["gimp-console", "-i", "--no-data", "--no-fonts"]
        if screen is not None:
            command = ["dbus-run-session", "--", "gimp", "--no-splash", "--new-instance", "--console-messages"]
            variables["DISPLAY"] = screen.name
        command += ["--batch-interpreter=python-fu-eval", "-b", f'exec(open("{file}").read())']
        self.program = self.start(*command, CODIFF_TEST_FOLDER=str(self.folder), **variables)
        self.lines.clear()
        threading.Thread(target=self._read, args=[self.program.stdout], daemon=True).start()

    def _read(self, output: IO[str]) -> None:
        self.lines.extend(iter(output.readline, ""))

    def use_engine(self, script: str = f'exec "{sys.executable}" "$@"') -> None:
        """Let the plug-in start this as the interpreter that has codiff-batch."""
        program = self.folder / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def begin(self, script: str) -> None:
        """Hand a script to GIMP; the names of prelude.py are there."""
        self._scripts += 1
        whole = self.folder / "whole.py"
        whole.write_text(script)
        whole.rename(self.folder / f"script-{self._scripts}.py")

    def end(self) -> dict[str, Any]:
        """Wait for the script's end and return what it gave to ``tell``."""
        told = self.folder / f"told-{self._scripts}.json"
        self.wait(told.exists, "the script's end")
        values: dict[str, Any] = json.loads(told.read_text())
        assert "traceback" not in values, values["traceback"]
        return values

    def run(self, script: str) -> dict[str, Any]:
        """Run a script to its end and return what it gave to ``tell``."""
        self.begin(script)
        return self.end()

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds, as long as GIMP lives."""
        until = time.monotonic() + PATIENCE
        while not condition():
            assert self.program is not None
            assert self.program.poll() is None, "".join(self.lines)
            assert time.monotonic() < until, f"{what} does not come: {''.join(self.lines[-20:])}"
            time.sleep(0.05)

    def kill(self) -> None:
        """End GIMP at once."""
        if self.program is not None and self.program.poll() is None:
            os.killpg(self.program.pid, signal.SIGKILL)
            self.program.wait()

    def wait_for_engines_end(self) -> None:
        """Give engines the seconds they may take to notice that GIMP is gone."""
        until = time.monotonic() + 30
        while (self.remains() or self.engines()) and time.monotonic() < until:
            time.sleep(0.1)

    def engines(self) -> list[Path]:
        """Folders of engines that are there."""
        return sorted(self.runtime.glob("codiff-batch-gimp-*"))

    def remains(self) -> Sequence[str]:
        """Engine processes of this GIMP that are alive."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"serve" in command and any(os.fsencode(self.runtime) in word for word in command):
                found.append(process.name)
        return found
