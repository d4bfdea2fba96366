"""Starts the program without the seconds that its imports take: a process that has made them forks for every start.

:func:`program` stands for ``python -m codiff_batch`` in a command. What it runs is a client, without site-packages: it
hands its streams, arguments, folder and environment over, passes signals on and ends as the program does. If it is
killed, so is the program.

Not for tests that look at the process itself (its memory, but for how that grows; its limits; what it imports), that
set what Python reads before any line of code, such as the locale, or that kill it and go on at once, since it ends a
moment after its client.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
from pathlib import Path

SHARED = "CODIFF_TEST_WARM"
"""Variable with the process that the server serves, and its folder."""


def announce() -> None:
    """Have this process, and all that it starts, share one server, which ends with this process."""
    if SHARED not in os.environ:
        import tempfile

        folder = tempfile.TemporaryDirectory(prefix="warm", dir="/tmp")  # a socket's path must be short
        os.environ[SHARED] = f"{os.getpid()} {folder.name}"
        atexit.register(folder.cleanup)


@functools.cache
def _server() -> Path:
    """The socket of the server; the first process that needs it starts it."""
    import fcntl
    import subprocess

    owner, folder = os.environ[SHARED].split(" ", 1)
    place = Path(folder) / "socket"
    with Path(folder, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            server = subprocess.Popen(
                [sys.executable, "-m", "tests.warm.server", str(place), owner],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).resolve().parents[2],
                start_new_session=True,  # what a terminal sends comes through the client
            )
            assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    return place


def program(module: str = "codiff_batch", *, cold: bool = False) -> list[str]:
    """The first words of a command that runs the program, or another module as ``python -m`` does.

    Args:
        cold: in a process of its own, imports and all.
    """
    if cold:
        return [sys.executable, "-m", module]
    return [sys.executable, "-SEs", str(Path(__file__).with_name("client.py")), str(_server()), module]


def script(code: str) -> list[str]:
    """The first words of a command that runs code, as ``python -c`` does."""
    return [*program("-c"), code]


@functools.cache
def path() -> str:
    """``$PATH`` for those who type ``codiff-batch``."""
    import shlex

    script = _server().with_name(str(os.getpid())) / "codiff-batch"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shlex.join(program())} "$@"\n')
    script.chmod(0o755)
    return f"{script.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
