"""Ctrl-C, SIGTERM and a closed terminal end a batch gently: photos in progress are finished, no more are started."""

from __future__ import annotations

import os
import signal
import threading
from types import TracebackType

import click

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class GentleStop:
    """Turns the first signal into an event; a second one quits at once, which also leaves only complete files.

    Usable in the main thread only, as signal handlers are.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.exit_code = 0
        """128 + the signal's number once one has arrived."""

    def __enter__(self) -> GentleStop:
        self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS if not _is_nohup(number)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        if self.event.is_set():
            os._exit(128 + number)
        self.exit_code = 128 + number
        self.event.set()
        click.echo("finishing the photos in progress; stop again to quit at once", err=True)


def _is_nohup(number: signal.Signals) -> bool:
    """Return True if the terminal may be closed: the program was started with nohup."""
    return number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN
