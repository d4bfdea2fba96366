"""Takes requests from clients and sends the answers."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import stat
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing import AuthenticationError
from multiprocessing import connection as connections
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import psutil

from codiff_batch.errors import Cancelled, CodiffError, FolderUnavailable, PhotoError
from codiff_batch.files.reading import read_whole
from codiff_batch.serve.channel import WAITING, Channel, Message, SocketChannel, hang_up
from codiff_batch.serve.engine import Engine
from codiff_batch.serve.turns import Turns

KEY = "key"
"""File in the folder whose bytes a client must know."""
SHORTEST_KEY = 16
"""Bytes."""
OWN = ("socket", KEY, "log", "starting")
"""What a server's folder contains, besides pictures in transit; "starting" marks that a client is starting it."""
SENT = re.compile(r"\d+-in\.raw")
"""What GIMP's plug-in calls a picture that it sends; one that is killed meanwhile never names it in a request."""
SHORT = ("hello", "estimate", "preview")
"""Requests that a user in a dialog waits for; they go first."""
LONGEST_ADDRESS = 100
"""Bytes that every system allows in the path of a socket (``sun_path`` has 104 or 108)."""
PULSE = 0.5
"""Seconds between two checks whether the host is still there."""
KNOCK_SECONDS = 5.0
"""Seconds a client may take to show that it knows the key."""
CLIENTS = 32
"""Connections at a time; more are refused."""


def serve(channel: Channel, engine: Engine, turns: Turns | None = None, files: set[Path] | None = None) -> None:
    """Answer one client's requests until it is gone; the files it names are added to ``files``."""
    turns, files = turns or Turns(), set() if files is None else files
    later: deque[Message] = deque()
    while (request := later.popleft() if later else channel.receive()) is not None:
        number, picture = _number(request), request.get("picture")
        named = [request.get("into"), picture.get("file") if isinstance(picture, dict) else None]
        files.update(Path(name) for name in named if isinstance(name, str))

        def report(done: int, total: int, number: Any = number) -> None:
            channel.offer({"id": number, "event": "progress", "done": done, "total": total})
            if channel.waiting():
                _heed(channel, later)
            turns.give_way()

        try:
            with turns.mine(short=request.get("do") in SHORT):
                answer = {"event": "done", **engine.answer(request, report)}
        except Cancelled:
            answer = {"event": "cancelled"}
        except CodiffError as error:
            answer = {"event": "error", "message": str(error)}
        except Exception as error:
            # The client may go on with other requests; what happened goes to the log as well.
            traceback.print_exc()
            answer = {"event": "error", "message": f"{type(error).__name__}: {error}"}
        channel.send({"id": number, **answer})


def _number(request: Message) -> Any:
    """What a client calls its request; nothing where an answer could not repeat it."""
    number = request.get("id")
    return number if isinstance(number, (str, int, float)) else None


def _heed(channel: Channel, later: deque[Message]) -> None:
    """Handle what a client sends while its request is running; other requests wait for their turn.

    Raises:
        Cancelled: the client cancels the request, or is gone; then the others are not needed either.
    """
    message = channel.receive()
    if message is None:
        later.clear()
    if message is None or message.get("do") == "cancel":
        raise Cancelled("cancelled")
    if len(later) < WAITING:
        later.append(message)
    else:
        told = f"{WAITING} requests are waiting already"
        channel.send({"id": _number(message), "event": "error", "message": told})


class FolderServer:
    """Serves the clients of one host program through a socket in a folder of theirs.

    Each client has a thread of its own, so a client keeps the others waiting only while it has its turn at the engine.
    The server ends, and removes what belongs to it, when the host is gone or no client has connected for a while.
    """

    def __init__(self, folder: Path, host: int, idle: float, engine: Engine) -> None:
        """Listen.

        Args:
            folder: the host's, with a file ``key``; the socket, pictures and the log lie in it.
            host: process id of the host program.
            idle: seconds without a client after which to end.
            engine: what answers.

        Raises:
            FolderUnavailable: another server already listens there, other users may enter, or there is no good key.
        """
        self._folder, self._idle, self._engine = folder, idle, engine
        self._turns, self._clients = Turns(), 0
        self._began, self._spoken = time.time(), list[set[Path]]()
        self._lock = threading.Lock()
        try:
            self._host = psutil.Process(host)
        except (psutil.Error, ValueError, OverflowError):
            raise FolderUnavailable(f"there is no process {host} to serve") from None
        _check_private(folder)
        try:
            self._key = read_whole(folder / KEY, follow=False, max_bytes=1 << 16).data
        except PhotoError as error:
            raise FolderUnavailable(f"{folder / KEY} {error}") from error
        if len(self._key) < SHORTEST_KEY:
            raise FolderUnavailable(f"{folder / KEY} is too short: a key has at least {SHORTEST_KEY} bytes")
        try:
            with address(folder) as place:
                _remove_stale(place)
                self._listener = Listener(place)
        except OSError as error:
            busy = error.errno == errno.EADDRINUSE
            said = "another server listens there, or something else is called socket" if busy else error.strerror
            raise FolderUnavailable(f"{folder}: {said or error}") from error
        self._last = time.monotonic()

    def run(self, signals: Iterable[signal.Signals]) -> None:
        """Serve until the host or all clients are gone, or one of the signals arrives; does not return."""
        for number in signals:
            signal.signal(number, lambda *_: self._end())
        threading.Thread(target=self._listen, daemon=True).start()
        # Python runs a signal's handler on this thread, so it never waits for long: a signal that another thread
        # takes, or that comes just before a system call, does not wake that call.
        with contextlib.suppress(psutil.Error):
            while self._host.is_running() and self._host.status() != psutil.STATUS_ZOMBIE:
                if not self._clients and time.monotonic() - self._last > self._idle:
                    break
                time.sleep(PULSE)
        self._end()

    def _listen(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                time.sleep(PULSE)  # No descriptors left, for instance.
                continue
            with self._lock:
                full = self._clients >= CLIENTS
                self._clients += not full
            if full:
                connection.close()
                continue
            try:
                threading.Thread(target=self._welcome, args=(connection,), daemon=True).start()
            except RuntimeError:  # The system allows no more threads for now; the client may come again.
                connection.close()
                with self._lock:
                    self._clients -= 1

    def _welcome(self, connection: Connection) -> None:
        """Serve a client from authentication to its end; nothing it does affects the others."""
        pictures: set[Path] = set()
        try:
            with contextlib.suppress(AuthenticationError, EOFError, OSError), connection:
                self._let_in(connection)
                with self._lock:
                    self._spoken.append(pictures)
                with contextlib.closing(SocketChannel(connection)) as channel:
                    serve(channel, self._engine, self._turns, pictures)
        except Exception:
            traceback.print_exc()
        finally:
            self._remove(pictures)  # A client that was killed could not clean up.
            with self._lock:
                self._clients -= 1
                self._last = time.monotonic()

    def _let_in(self, connection: Connection) -> None:
        """Make a client show in time that it knows the key."""
        timer = threading.Timer(KNOCK_SECONDS, hang_up, [connection])
        timer.start()
        try:
            connections.deliver_challenge(connection, self._key)
            connections.answer_challenge(connection, self._key)
        finally:
            timer.cancel()

    def _end(self) -> None:
        """Remove what belongs to the server, and the folder if nothing else is in it."""
        for pictures in list(self._spoken):
            self._remove(pictures)
        self._remove({file for file in self._folder.glob("*.raw") if SENT.fullmatch(file.name)})
        for name in OWN:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()
        with contextlib.suppress(OSError):
            self._folder.rmdir()
        os._exit(0)

    def _remove(self, pictures: set[Path]) -> None:
        """Remove pictures that clients sent or got, but nothing that was in the folder before the server started."""
        for file in list(pictures):
            with contextlib.suppress(OSError, ValueError):
                if file.parent == self._folder and file.suffix == ".raw" and file.lstat().st_ctime >= self._began - 1:
                    file.unlink()
        with self._lock:
            self._spoken = [others for others in self._spoken if others is not pictures]


def _check_private(folder: Path) -> None:
    """Refuse a folder that other users may enter: with the socket and the key they would have the user's rights.

    Raises:
        FolderUnavailable: with that reason.
    """
    if os.name == "nt":
        return  # Folders of the user's own profile are private there.
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise FolderUnavailable(f"{folder} must be a folder of yours that nobody else may enter (chmod 700)")


def _remove_stale(place: str) -> None:
    """Remove the socket of a server that was killed: nobody listens there."""
    if os.name == "nt":
        return  # Named pipes go with their process.
    with socket.socket(socket.AF_UNIX) as knock:
        knock.settimeout(PULSE)
        if knock.connect_ex(place) == errno.ECONNREFUSED and stat.S_ISSOCK(Path(place).lstat().st_mode):
            Path(place).unlink()


@contextlib.contextmanager
def address(folder: Path) -> Iterator[str]:
    """Where a folder's server listens: a Unix socket in it, or a named pipe on Windows.

    A path too long for a socket is shortened by stepping into its folder, for as long as the address is needed.
    """
    place = str(folder / "socket")
    if os.name == "nt":
        yield rf"\\.\pipe\{folder.name}"
    elif len(os.fsencode(place)) <= LONGEST_ADDRESS:
        yield place
    else:
        with contextlib.chdir(folder):
            yield "socket"
