"""Two ways to talk to a client: lines on standard input and output, or messages on a local socket."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import select
import socket
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from queue import Empty, Queue
from typing import Any, Protocol

from codiff_batch.files.pipes import pieces, write_all

Message = dict[str, Any]

LONGEST_MESSAGE = 1 << 20
"""Bytes; pictures come in files, so no real message is nearly this long."""

WAITING = 64
"""Messages of a client that are kept until it is their turn."""


class Channel(Protocol):
    """Messages to and from one client."""

    def receive(self) -> Message | None:
        """The next message, waiting for it; None when the client is gone."""

    def waiting(self) -> bool:
        """Return True if :meth:`receive` would return at once."""

    def send(self, message: Message) -> None:
        """Send, unless the client is gone."""

    def offer(self, message: Message) -> None:
        """Send what nobody needs later, if the client takes it at once."""


class _Inbox:
    """What a thread has read of a client: nobody else waits for a client that stops within a message."""

    def __init__(self) -> None:
        self._read: Queue[bytes | None] = Queue(WAITING)
        self._gone = False
        self._reader = threading.Thread(target=self._fill, daemon=True)
        self._reader.start()

    def receive(self) -> Message | None:
        """The next message, waiting for it; None when the client is gone."""
        message = None if self._gone else self._read.get()
        self._gone = message is None
        return None if message is None else parse(message)

    def waiting(self) -> bool:
        """Return True if :meth:`receive` would return at once."""
        return self._gone or not self._read.empty()

    def _fill(self) -> None:
        with contextlib.suppress(EOFError, OSError):  # A client that cannot be read any more is gone.
            for message in self._messages():
                self._read.put(message)
        self._read.put(None)

    def _messages(self) -> Iterator[bytes]:
        raise NotImplementedError


class StdioChannel(_Inbox):
    """JSON objects, one per line. A client that closes standard input is gone."""

    def __init__(self) -> None:
        # Other output, from a library for instance, must not get between the messages.
        self._out = io.FileIO(os.dup(1), "w")
        os.dup2(2, 1)
        super().__init__()

    def _messages(self) -> Iterator[bytes]:
        # A file without a buffer: a thread blocked in sys.stdin makes Python abort at exit.
        rest = b""
        for data in pieces(io.FileIO(0, closefd=False)):
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
            rest = rest[: LONGEST_MESSAGE + 1]  # Anything longer is not a valid message.

    def send(self, message: Message) -> None:
        """Send, unless the client is gone."""
        try:
            write_all(self._out, json.dumps(message).encode() + b"\n")
        except OSError:
            self._gone = True

    def offer(self, message: Message) -> None:
        """Send: there is no other client to keep waiting."""
        self.send(message)


class SocketChannel(_Inbox):
    """JSON objects, one a message of :mod:`multiprocessing.connection`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        super().__init__()

    def _messages(self) -> Iterator[bytes]:
        while True:
            yield self._connection.recv_bytes(LONGEST_MESSAGE)  # One that is too long ends the connection.

    def send(self, message: Message) -> None:
        """Send, unless the client is gone."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(message).encode())

    def offer(self, message: Message) -> None:
        """Send what nobody needs later, if the client takes it at once."""
        if _takes_more(self._connection):
            self.send(message)

    def close(self) -> None:
        """End the connection, and wait for whoever reads it: its number may be another client's next."""
        hang_up(self._connection)
        while self._reader.is_alive():
            with contextlib.suppress(Empty):
                self._read.get(timeout=0.1)  # the reader may wait for room
        self._connection.close()


def hang_up(connection: Connection) -> None:
    """End a connection under a thread that waits for it."""
    with contextlib.suppress(OSError, ValueError):
        if os.name == "nt":
            connection.close()
        else:
            with socket.socket(fileno=os.dup(connection.fileno())) as other:
                other.shutdown(socket.SHUT_RDWR)


def _takes_more(connection: Connection) -> bool:
    """Return True if a short message can be sent without waiting for the client to read earlier ones."""
    if not hasattr(select, "poll"):
        return True  # Windows, where a pipe cannot be asked.
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLOUT)
    return bool(poll.poll(0))


def _finite(number: str) -> float:
    """A number that an answer can repeat: NaN and infinity are not JSON."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(number)
    return value


def parse(data: bytes) -> Message:
    """A message; for invalid data ``{"do": "…"}`` with its beginning, which is not a known request."""
    try:
        short = len(data) <= LONGEST_MESSAGE
        message = json.loads(data, parse_float=_finite, parse_constant=_finite) if short else None
    except (ValueError, RecursionError):
        message = None
    return message if isinstance(message, dict) else {"do": data[:40].decode("utf-8", "replace")}
