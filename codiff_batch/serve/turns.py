"""Whose turn it is: the device does one thing at a time, and questions that are short go first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that long work lends to short work between two of its steps."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._taken = False
        self._short_waiting = 0

    @contextmanager
    def turn(self, *, short: bool) -> Iterator[None]:
        """Have the device, once it is free and nobody with a shorter question waits."""
        self._take(short=short)
        try:
            yield
        finally:
            self._leave()

    def give_way(self) -> None:
        """Let short questions go first; called by whoever has the device."""
        if self._short_waiting:
            self._leave()
            self._take(short=False)

    def _take(self, *, short: bool) -> None:
        with self._change:
            self._short_waiting += short
            self._change.wait_for(lambda: not self._taken and (short or not self._short_waiting))
            self._short_waiting -= short
            self._taken = True

    def _leave(self) -> None:
        with self._change:
            self._taken = False
            self._change.notify_all()
