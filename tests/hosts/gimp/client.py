"""A GIMP in a file system of its own, started with the plug-in as ``codiff-batch gimp install`` leaves it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PRELUDE = Path(__file__).with_name("prelude.py")
PATIENCE = 300.0


class Gimp:
    """GIMP with a user folder of its own, in the test's folder; that is what both sides see under one path."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.user = folder / "gimp"
        self.user.mkdir(parents=True)
        (self.user / "gimprc").write_text(
            '(config-version "3.0.4")\n(check-updates no)\n(show-welcome-dialog no)\n(metadata-rotation-policy keep)\n'
        )
        self.runtime = folder / "run"
        """Where the engine's folder lies, in place of /tmp."""
        self.runtime.mkdir(mode=0o700)
        self._console: subprocess.Popen[str] | None = None
        self._scripts = 0

    def command_line(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``codiff-batch gimp …`` for this GIMP."""
        command = [sys.executable, "-m", "codiff_batch", "gimp", *arguments, "--gimp-dir", str(self.user)]
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
            **variables,
        }
        inside = f"mount -t proc proc {self.root}/proc;"
        for path in sorted(seen):
            place = shlex.quote(f"{self.root}{path}")
            inside += f"mkdir -p {place}; mount --bind {shlex.quote(path)} {place};"
        for device in ("null", "urandom", "random", "zero"):
            inside += f"touch {self.root}/dev/{device}; mount --bind /dev/{device} {self.root}/dev/{device};"
        words = [f"{name}={value}" for name, value in environment.items()]
        inside += f"exec chroot {shlex.quote(str(self.root))} /usr/bin/env -i {shlex.join([*words, *command])}"
        return subprocess.Popen(
            ["unshare", "-m", "bash", "-ec", inside],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def console(self) -> subprocess.Popen[str]:
        """Start GIMP without a window; it runs one script after the other, as :meth:`run` hands them over."""
        file = self.folder / "prelude.py"
        file.write_text(PRELUDE.read_text())
        command = ["gimp-console", "-i", "--no-data", "--no-fonts", "--quit", "--batch-interpreter=python-fu-eval"]
        return self.start(*command, "-b", f'exec(open("{file}").read())', CODIFF_TEST_FOLDER=str(self.folder))

    def begin(self, script: str) -> None:
        """Hand a script to the console, which is started first if it does not run."""
        if self._console is None or self._console.poll() is not None:
            self._console = self.console()
        self._scripts += 1
        whole = self.folder / "whole.py"
        whole.write_text(script)
        whole.rename(self.folder / f"script-{self._scripts}.py")

    def end(self) -> dict[str, Any]:
        """Wait for the script's end and return what it gave to ``tell``."""
        told = self.folder / f"told-{self._scripts}.json"
        until = time.monotonic() + PATIENCE
        while not told.exists():
            assert self._console is not None
            assert self._console.poll() is None, self._console.communicate()[0]
            assert time.monotonic() < until, "the script takes for ever"
            time.sleep(0.05)
        values = json.loads(told.read_text())
        assert "traceback" not in values, values["traceback"]
        return values

    def run(self, script: str) -> dict[str, Any]:
        """Run a script to its end and return what it gave to ``tell``; the names of prelude.py are there."""
        self.begin(script)
        return self.end()

    def stop(self) -> None:
        """End the console."""
        if self._console is not None and self._console.poll() is None:
            self.run("Gimp.quit()")
            os.killpg(self._console.pid, signal.SIGKILL)
        self._console = None

    def wait_for_engines_end(self) -> None:
        """Give engines the seconds they may take to notice that GIMP is gone."""
        until = time.monotonic() + 10
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
