"""One engine, several clients: one request runs at a time, and short ones go before long ones."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turns:
    """A lock that is granted in the order of asking, so a client that asks again at once cannot starve the others.

    Short requests go before long ones, also between two steps of a long one that has begun.
    """

    def __init__(self) -> None:
        self._short: list[object] = []
        self._long: list[object] = []
        self._owner: object | None = None
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def mine(self, *, short: bool = False) -> Iterator[None]:
        """Wait for a turn, and hold it."""
        ticket = object()
        self._take(ticket, self._short if short else self._long)
        try:
            yield
        finally:
            self._leave()

    def give_way(self) -> None:
        """Let short requests go first; called by the one that has the turn, between two steps of a long request."""
        if self._short and (ticket := self._owner) is not None:
            self._leave()
            self._take(ticket, self._long, first=True)

    def _take(self, ticket: object, queue: list[object], *, first: bool = False) -> None:
        with self._changed:
            queue.insert(0 if first else len(queue), ticket)
            self._changed.wait_for(lambda: self._owner is None and [*self._short, *self._long][0] is ticket)
            queue.remove(ticket)
            self._owner = ticket

    def _leave(self) -> None:
        with self._changed:
            self._owner = None
            self._changed.notify_all()
