"""Asks the engine while the dialog stays usable: questions go out on a thread, answers come back in GIMP's loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from gi.repository import GLib

from codiff_gimp.engine import Engine, Outdated
from codiff_gimp.texts import Refused

Then = Callable[[dict[str, Any]], Any]


class Assistant:
    """The dialog's line to the engine. Nothing but sockets and files happens on its thread, no call into GIMP."""

    def __init__(self, on_refusal: Callable[[str], Any]) -> None:
        """Start the engine, if it is not there.

        Args:
            on_refusal: called in the main loop with the sentence for the user.
        """
        self.engine: Engine | None = None
        self._on_refusal = on_refusal
        self._refusal: Refused | None = None
        self._questions: deque[tuple[dict[str, Any], Then]] = deque()
        self._newest: tuple[dict[str, Any], Then] | None = None
        self._at_work: str | None = None
        self._over = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def ask(self, question: dict[str, Any], then: Then) -> None:
        """Ask, after what was asked before."""
        with self._change:
            self._questions.append((question, then))
            self._change.notify()

    def preview(self, question: dict[str, Any], then: Then) -> None:
        """Ask for a preview, in place of any that was asked for before."""
        with self._change:
            self._newest = (question, then)
            self._cancel()
            self._change.notify()

    def leave(self) -> Engine:
        """End the questions and hand over the engine.

        Raises:
            Refused: there is none.
        """
        with self._change:
            self._over, self._newest = True, None
            self._cancel()
            self._change.notify()
        self._thread.join()
        if self.engine is None:
            raise self._refusal or Refused()
        return self.engine

    def _cancel(self) -> None:
        if self._at_work == "preview" and self.engine is not None:
            self.engine.cancel()

    def _work(self) -> None:
        try:
            self.engine = Engine()
            while (task := self._next()) is not None:
                question, then = task
                try:
                    answer = self.engine.ask(**question)
                except Outdated:
                    continue
                except Refused as error:
                    GLib.idle_add(self._on_refusal, str(error))
                    continue
                GLib.idle_add(self._hand_over, then, answer)
        except (Refused, OSError) as error:
            self._refusal = error if isinstance(error, Refused) else Refused(str(error))
            GLib.idle_add(self._on_refusal, str(error))

    def _next(self) -> tuple[dict[str, Any], Then] | None:
        with self._change:
            self._at_work = None
            while not (self._over or self._questions or self._newest):
                self._change.wait()
            if self._over:
                return None
            if self._questions:
                task = self._questions.popleft()
            else:
                task, self._newest = self._newest, None
            self._at_work = task[0]["do"]
            return task

    def _hand_over(self, then: Then, answer: dict[str, Any]) -> bool:
        if not self._over:
            then(answer)
        return GLib.SOURCE_REMOVE
