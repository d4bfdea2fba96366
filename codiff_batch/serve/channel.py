"""Two ways to talk to a client: lines on standard input and output, or messages on a local socket."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from multiprocessing.connection import Connection
from queue import Queue
from typing import Any, Protocol

Message = dict[str, Any]

LONGEST_MESSAGE = 1 << 20
"""Bytes; pictures come in files, so no real message is nearly this long."""


class Channel(Protocol):
    """Messages to and from one client."""

    def receive(self) -> Message | None:
        """The next message, waiting for it; None when the client is gone."""

    def waiting(self) -> bool:
        """Return True if :meth:`receive` would return at once."""

    def send(self, message: Message) -> None:
        """Send, unless the client is gone."""


class StdioChannel:
    """JSON objects, one per line. A client that closes standard input is gone."""

    def __init__(self) -> None:
        self._lines: Queue[bytes | None] = Queue()
        # Other output, from a library for instance, must not get between the messages.
        self._out = os.dup(1)
        os.dup2(2, 1)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        # os.read rather than sys.stdin: a thread blocked in the latter makes Python abort at exit.
        rest = b""
        while data := os.read(0, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._lines.put(line)
            rest = rest[: LONGEST_MESSAGE + 1]  # Anything longer is not a valid message.
        self._lines.put(None)

    def receive(self) -> Message | None:
        """The next message, waiting for it; None when the client is gone."""
        line = self._lines.get()
        if line is None:
            self._lines.put(None)
            return None
        return parse(line)

    def waiting(self) -> bool:
        """Return True if :meth:`receive` would return at once."""
        return not self._lines.empty()

    def send(self, message: Message) -> None:
        """Send, unless the client is gone."""
        try:
            os.write(self._out, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            self._lines.put(None)


class SocketChannel:
    """JSON objects, one a message of :mod:`multiprocessing.connection`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def receive(self) -> Message | None:
        """The next message, waiting for it; None when the client is gone."""
        try:
            return parse(self._connection.recv_bytes(LONGEST_MESSAGE))
        except (EOFError, OSError):  # One that is too long ends the connection.
            return None

    def waiting(self) -> bool:
        """Return True if :meth:`receive` would return at once."""
        try:
            return self._connection.poll()
        except OSError:
            return True

    def send(self, message: Message) -> None:
        """Send, unless the client is gone."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(message).encode())


def parse(data: bytes) -> Message:
    """A message; for invalid data ``{"do": "…"}`` with its beginning, which is not a known request."""
    try:
        message = json.loads(data) if len(data) <= LONGEST_MESSAGE else None
    except (ValueError, RecursionError):
        message = None
    return message if isinstance(message, dict) else {"do": data[:40].decode("utf-8", "replace")}
