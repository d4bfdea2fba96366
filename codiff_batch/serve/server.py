"""Takes requests from clients and sends what comes of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
import traceback
from multiprocessing import AuthenticationError
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import psutil

from codiff_batch.errors import Cancelled, CodiffError, FolderUnavailable
from codiff_batch.serve.channel import Channel, Message, SocketChannel
from codiff_batch.serve.engine import Engine

KEY = "key"
"""File in the folder whose bytes a client must know."""
PULSE = 0.5
"""Seconds between two looks at whether there is still somebody to serve."""


def serve(channel: Channel, engine: Engine) -> set[Path]:
    """Answer one client's requests until it is gone; return the files it spoke of."""
    files: set[Path] = set()
    while (request := channel.receive()) is not None:
        number, picture = request.get("id"), request.get("picture")
        named = [request.get("into"), picture.get("file") if isinstance(picture, dict) else None]
        files.update(Path(name) for name in named if isinstance(name, str))

        def report(done: int, total: int, number: Any = number) -> None:
            channel.send({"id": number, "event": "progress", "done": done, "total": total})
            if channel.waiting():
                _heed(channel.receive())

        try:
            answer = {"event": "done", **engine.answer(request, report)}
        except Cancelled:
            answer = {"event": "cancelled"}
        except CodiffError as error:
            answer = {"event": "error", "message": str(error)}
        except Exception as error:
            # The client may ask for something else next; what happened goes to the log as well.
            traceback.print_exc()
            answer = {"event": "error", "message": f"{type(error).__name__}: {error}"}
        channel.send({"id": number, **answer})
    return files


def _heed(message: Message | None) -> None:
    """What a client says while its request is at work: nothing but its end."""
    if message is None or message.get("do") == "cancel":
        raise Cancelled("cancelled")


class FolderServer:
    """Serves the clients of one host program, one after the other, through a socket in a folder of theirs.

    It ends, and removes the folder, when the host is gone or nobody came for a while.
    """

    def __init__(self, folder: Path, host: int, idle: float, engine: Engine) -> None:
        """Listen.

        Args:
            folder: the host's, with a file ``key``; the socket, pictures and the log lie in it.
            host: process id of the host program.
            idle: seconds without a client after which to end.
            engine: what answers.

        Raises:
            FolderUnavailable: another server listens there already, or there is no key.
        """
        self._folder, self._idle, self._engine = folder, idle, engine
        try:
            self._host = psutil.Process(host)
        except psutil.NoSuchProcess:
            raise FolderUnavailable(f"there is no process {host} to serve") from None
        try:
            self._listener = Listener(address(folder), authkey=(folder / KEY).read_bytes())
        except OSError as error:
            raise FolderUnavailable(f"{folder}: {error}") from error
        self._busy, self._last = False, time.monotonic()

    def run(self) -> None:
        """Serve until there is nobody left to serve; does not return."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end())
        threading.Thread(target=self._watch, daemon=True).start()
        while True:
            # A client that has not the key, or dies while it knocks, is no reason to stop.
            with contextlib.suppress(AuthenticationError, EOFError, OSError), self._listener.accept() as connection:
                self._busy = True
                # A client that was killed could not clean up.
                for file in serve(SocketChannel(connection), self._engine):
                    if file.parent == self._folder:
                        file.unlink(missing_ok=True)
            self._busy, self._last = False, time.monotonic()

    def _watch(self) -> None:
        while self._host.is_running() and self._host.status() != psutil.STATUS_ZOMBIE:
            if not self._busy and time.monotonic() - self._last > self._idle:
                break
            time.sleep(PULSE)
        self._end()

    def _end(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(0)


def address(folder: Path) -> str:
    """Where a folder's server listens: a Unix socket in it, or a named pipe on Windows."""
    return rf"\\.\pipe\{folder.name}" if os.name == "nt" else str(folder / "socket")
