"""Ctrl-C, SIGTERM and a closed terminal end a batch gently: photos in progress are finished, no more are started."""

from __future__ import annotations

import os
import signal
import threading
from types import TracebackType

import click


class GentleStop:
    """Turns the first signal into an event; a second one quits at once, which also leaves only complete files.

    Usable in the main thread only, as signal handlers are.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.exit_code = 0
        """128 + the signal's number once one has arrived."""
        self._telling: threading.Thread | None = None

    def __enter__(self) -> GentleStop:
        self._previous = {number: signal.signal(number, self._handle) for number in ending_signals()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._telling is not None:
            self._telling.join()

    def _handle(self, number: int, frame: object) -> None:
        if self.exit_code:
            os._exit(128 + number)
        self.exit_code = 128 + number
        # In a thread of its own: this one may be about to wait for the event, or to write, and have the lock for that.
        self._telling = threading.Thread(target=self._tell)
        try:
            self._telling.start()
        except RuntimeError:  # The system allows no more threads.
            self._telling = None
            self._tell()

    def _tell(self) -> None:
        self.event.set()
        click.echo("finishing the photos in progress; stop again to quit at once", err=True)


def ending_signals() -> list[signal.Signals]:
    """Signals that end the program: Ctrl-C, SIGTERM, and a closed terminal unless it was started with nohup."""
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [one for one in signals if one.name != "SIGHUP" or signal.getsignal(one) is not signal.SIG_IGN]
