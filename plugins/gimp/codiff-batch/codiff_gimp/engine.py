"""The engine: one process for each running GIMP, started by the first plug-in that needs it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from codiff_gimp.texts import Refused, _

PYTHON = "CODIFF_PYTHON"
"""Variable with the interpreter that has codiff-batch; set by a file in GIMP's folder ``environ``."""
GIMPS_OWN = ("PYTHONHOME", "PYTHONPATH", "GI_TYPELIB_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV")
"""Variables that are for GIMP's Python and would break another one."""
START_SECONDS = 60.0
LONGEST_ADDRESS = 100
"""Bytes that every system allows in the path of a socket (``sun_path`` has 104 or 108)."""


class Outdated(Exception):
    """The request was cancelled, because its answer is no longer needed."""


def interpreter() -> str:
    """The Python that has codiff-batch.

    Raises:
        Refused: this GIMP was not told of one.
    """
    if not os.environ.get(PYTHON):
        raise Refused(
            _(
                "codiff-batch is not set up for this GIMP. Install it, run 'codiff-batch gimp install' "
                "once, then start GIMP again."
            )
        )
    return os.environ[PYTHON]


class Engine:
    """A connection to the engine, which is started if it is not there. One thread asks; any may cancel."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._sending = threading.Lock()
        self._connection: Connection | None = None
        self.start_again()

    def start_again(self) -> None:
        """Start or join another engine if this one has ended.

        Raises:
            Refused: it does not start.
        """
        if self._connection is not None and not self._connection.closed:
            return
        self.folder = _private_folder()
        try:
            self._connection = self._connect() or self._start()
        except Refused:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def ask(self, on_progress: Callable[[float], Any] | None = None, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            Refused: with the engine's sentence, or because it is gone.
            Outdated: the request was cancelled.
        """
        number = next(self._numbers)
        try:
            self._send({"id": number, **request})
            while True:
                answer = json.loads(self._connection.recv_bytes())
                if answer.get("id") != number:
                    continue  # of a cancellation that came too late
                if answer["event"] == "progress":
                    if on_progress is not None:
                        on_progress(answer["done"] / answer["total"])
                elif answer["event"] == "error":
                    raise Refused(answer["message"])
                elif answer["event"] == "cancelled":
                    raise Outdated
                else:
                    return answer
        except (EOFError, OSError):
            last_words = self._last_words()
            self._connection.close()
            shutil.rmtree(self.folder, ignore_errors=True)  # in its place
            raise Refused(_("The engine ended unexpectedly.") + last_words) from None

    def cancel(self) -> None:
        """End the request that is at work, between two tiles."""
        with contextlib.suppress(OSError):
            self._send({"do": "cancel"})

    def file(self, name: str) -> Path:
        """Path for a picture on its way."""
        return self.folder / f"{os.getpid()}-{name}.raw"

    def close(self) -> None:
        """Let the engine go on without us."""
        self._connection.close()
        for file in self.folder.glob(f"{os.getpid()}-*.raw"):
            file.unlink(missing_ok=True)

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._connection.send_bytes(json.dumps(message).encode())

    def _connect(self) -> Connection | None:
        try:
            with _address(self.folder) as address:
                return Client(address, authkey=(self.folder / "key").read_bytes())
        except (AuthenticationError, EOFError, OSError):
            return None

    def _start(self) -> Connection:
        python = interpreter()
        until = time.monotonic() + START_SECONDS
        process = self._launch(python) if self._is_ours_to_start() else None
        try:
            while time.monotonic() < until:
                connection = self._connect()
                if connection is not None:
                    return connection
                if process is not None and process.poll() is not None:
                    break
                time.sleep(0.1)
        finally:
            if process is not None:
                (self.folder / "starting").unlink(missing_ok=True)
        raise Refused(
            _("The engine does not start with {python}. 'codiff-batch gimp doctor' says how to fix it.").format(
                python=python
            )
            + self._last_words()
        )

    def _is_ours_to_start(self) -> bool:
        """Return True unless another dialog of this GIMP is starting the engine right now."""
        mark = self.folder / "starting"
        with contextlib.suppress(FileExistsError):
            mark.touch(exist_ok=False)
            return True
        with contextlib.suppress(OSError):
            if time.time() - mark.stat().st_mtime > START_SECONDS:  # left by one that was killed
                os.utime(mark)
                return True
        return False

    def _launch(self, python: str) -> subprocess.Popen[bytes]:
        for left_over in ("socket", "key"):
            (self.folder / left_over).unlink(missing_ok=True)
        (self.folder / "key").write_bytes(os.urandom(32))  # in a folder that nobody else can look into
        # -P: without it, modules in GIMP's current folder would come before the package's.
        serve = ["serve", "--folder", str(self.folder), "--host", str(os.getppid())]
        command = [python, "-P", "-m", "codiff_batch", *serve]
        environment = {name: value for name, value in os.environ.items() if name not in GIMPS_OWN}
        alone = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
        try:
            with (self.folder / "log").open("w", encoding="utf-8") as log:
                return subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, **alone
                )
        except OSError as error:
            raise Refused(
                _("The engine cannot be started: {error}. 'codiff-batch gimp doctor' says how to fix it.").format(
                    error=error
                )
            ) from None

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = [line for line in (self.folder / "log").read_text("utf-8", "replace").splitlines() if line.strip()]
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
            raise Refused(_("{folder} is not a private folder of yours; remove it.").format(folder=folder))
    return folder


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """Where the engine listens; a path too long for a socket is shortened by stepping into its folder."""
    socket = str(folder / "socket")
    if os.name == "nt":
        yield rf"\\.\pipe\{folder.name}"
    elif len(os.fsencode(socket)) <= LONGEST_ADDRESS:
        yield socket
    else:
        with contextlib.chdir(folder):
            yield "socket"
