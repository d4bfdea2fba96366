"""How a host program comes into a folder: whole, or with a word on what went wrong."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

PAUSE = 20.0
"""Seconds before the second try: package indexes are busy at times."""

TOLD = 30
"""Lines that a failed command's error ends with."""


class InstallFailed(Exception):
    """A command failed twice; the message has the end of what it printed."""


def bring(folder: Path, recipe: Path, install: Callable[[Path], None]) -> None:
    """Install into a folder, unless that recipe was followed there to its end already.

    What an interrupted run or another recipe left in the folder is thrown away first. One process at a time installs.

    Args:
        folder: of this host alone.
        recipe: the file that says how; when it changes, the host is installed anew.
        install: is given the folder, empty.

    Raises:
        InstallFailed: a package cannot be had.
    """
    done = folder / "done"
    wanted = hashlib.sha256(recipe.read_bytes()).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if done.exists() and done.read_text() == wanted:
            return
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        install(folder)
        done.write_text(wanted)


def run(command: Sequence[str | Path], *, before_again: Callable[[], object] = lambda: None) -> None:
    """Run a command, and once more after a pause if it fails.

    Args:
        command: program and arguments.
        before_again: removes what a failed first try left, where the command minds.

    Raises:
        InstallFailed: it failed again.
    """
    if _output_of_failure(command) is None:
        return
    time.sleep(PAUSE)
    before_again()
    if (printed := _output_of_failure(command)) is not None:
        end = "\n".join(printed.splitlines()[-TOLD:])
        raise InstallFailed(f"{' '.join(map(str, command))}\n{end}")


def _output_of_failure(command: Sequence[str | Path]) -> str | None:
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    return ended.stdout if ended.returncode else None
