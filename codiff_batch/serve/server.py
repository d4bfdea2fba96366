"""Takes requests from clients and sends what comes of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import psutil

from codiff_batch.errors import Cancelled, CodiffError, FolderUnavailable
from codiff_batch.serve.channel import Channel, Message, SocketChannel
from codiff_batch.serve.engine import Engine
from codiff_batch.serve.turns import Turns

KEY = "key"
"""File in the folder whose bytes a client must know."""
LONGEST_ADDRESS = 100
"""Bytes that every system allows in the path of a socket (``sun_path`` has 104 or 108)."""
PULSE = 0.5
"""Seconds between two looks at whether there is still somebody to serve."""


SHORT = ("hello", "estimate", "preview")
"""Requests that someone waits for before a dialog; they go first."""


def serve(channel: Channel, engine: Engine, turns: Turns) -> set[Path]:
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
            turns.give_way()

        try:
            with turns.turn(short=request.get("do") in SHORT):
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
    """Serves the clients of one host program, each on a thread, through a socket in a folder of theirs.

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
            with address(folder) as place:
                self._listener = Listener(place, authkey=(folder / KEY).read_bytes())
        except OSError as error:
            raise FolderUnavailable(f"{folder}: {error}") from error
        self._clients, self._last = 0, time.monotonic()
        self._turns, self._counting = Turns(), threading.Lock()

    def run(self) -> None:
        """Serve until there is nobody left to serve; does not return."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end())
        threading.Thread(target=self._watch, daemon=True).start()
        while True:
            # A client that has not the key, or dies while it knocks, is no reason to stop.
            with contextlib.suppress(AuthenticationError, EOFError, OSError):
                connection = self._listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        self._count(1)
        try:
            with connection:
                files = serve(SocketChannel(connection), self._engine, self._turns)
            # A client that was killed could not clean up.
            for file in files:
                if file.parent == self._folder:
                    file.unlink(missing_ok=True)
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._counting:
            self._clients += more
            self._last = time.monotonic()

    def _watch(self) -> None:
        while self._host.is_running() and self._host.status() != psutil.STATUS_ZOMBIE:
            if not self._clients and time.monotonic() - self._last > self._idle:
                break
            time.sleep(PULSE)
        self._end()

    def _end(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(0)


@contextlib.contextmanager
def address(folder: Path) -> Iterator[str]:
    """Where a folder's server listens: a Unix socket in it, or a named pipe on Windows.

    A path too long for a socket is shortened by stepping into its folder, for as long as the address is needed.
    """
    socket = str(folder / "socket")
    if os.name == "nt":
        yield rf"\\.\pipe\{folder.name}"
    elif len(os.fsencode(socket)) <= LONGEST_ADDRESS:
        yield socket
    else:
        with contextlib.chdir(folder):
            yield "socket"
