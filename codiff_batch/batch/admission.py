"""Limits on photos in progress: memory (:class:`Admission`), time (:class:`Patience`), and replaceable threads."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from codiff_batch.errors import TookTooLong

Job = Callable[[], None]

SECONDS_A_PHOTO = 600.0
SECONDS_A_MEGAPIXEL = 1800.0
"""The time limit where none is given: the largest model on a slow processor needs minutes per megapixel."""

POLL_SECONDS = 0.5
"""Between two checks for photos that take too long."""


def usual_jobs() -> int:
    """How many threads read, and how many write, where nothing else is asked for: half of the cores, at least 2."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, cores // 2)


class Admission:
    """Limits an amount that is in progress, such as bytes or pixels."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._changed = threading.Condition()

    def enter(self, amount: int) -> None:
        """Wait until there is room; an amount above the limit enters alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + amount <= self._limit)
            self._used += amount

    def raise_to(self, limit: int) -> None:
        """Let more in from now on; never less."""
        with self._changed:
            self._limit = max(self._limit, limit)
            self._changed.notify_all()

    def open_up(self) -> None:
        """Let all waiting threads in: the run is ending."""
        with self._changed:
            self._limit = sys.maxsize
            self._changed.notify_all()

    def leave(self, amount: int) -> None:
        """Make room."""
        with self._changed:
            self._used -= amount
            self._changed.notify_all()


@dataclass
class _Step:
    until: float | None
    """None once it must not be given up any more."""
    limit: float
    thread: threading.Thread


class Patience:
    """Knows which photos a step is being taken for, and its deadline. Safe to use from several threads."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            seconds: the limit for a step; None for a limit that grows with the photo.
            clock: seconds that never go back.
        """
        self._seconds, self._clock = seconds, clock
        self._steps: dict[Hashable, _Step] = {}
        self._lock = threading.Lock()

    def limit(self, pixels: int) -> float:
        """Seconds that a step may take for a photo with this many pixels."""
        return SECONDS_A_PHOTO + SECONDS_A_MEGAPIXEL * pixels / 1e6 if self._seconds is None else self._seconds

    def take(self, photo: Hashable, pixels: int, step: Job) -> bool:
        """Take a step; return False if it was given up meanwhile and its result must be dropped."""
        limit = self.limit(pixels)
        with self._lock:
            self._steps[photo] = _Step(self._clock() + limit, limit, threading.current_thread())
        try:
            step()
        finally:
            with self._lock:
                kept = self._steps.pop(photo, None)
        return kept is not None

    def commit(self, photo: Hashable) -> None:
        """Note that a file is about to appear, after which the step is not given up any more.

        Raises:
            TookTooLong: it was given up already.
        """
        with self._lock:
            if photo not in self._steps:
                raise TookTooLong("given up")  # never shown: the photo already has its outcome
            self._steps[photo].until = None

    def overdue(self) -> list[tuple[Hashable, TookTooLong, threading.Thread]]:
        """Give up the steps that took too long; return the photos, the reasons, and the threads still at work."""
        now = self._clock()
        with self._lock:
            late = [photo for photo, step in self._steps.items() if step.until is not None and now > step.until]
            steps = [(photo, self._steps.pop(photo)) for photo in late]
        return [(photo, took_too_long(step.limit), step.thread) for photo, step in steps]


def took_too_long(seconds: float) -> TookTooLong:
    """Say that a photo was given up."""
    return TookTooLong(f"given up after {seconds:g} s")


class Workers:
    """Threads that take jobs in turn. One that hangs can be replaced, and does not keep the program from ending."""

    def __init__(self, count: int, name: str) -> None:
        self._name = name
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._threads: set[threading.Thread] = set()
        for _ in range(count):
            self._start()

    def submit(self, job: Job) -> None:
        """Have a job done by the next thread that is free."""
        self._jobs.put(job)

    def replace(self, thread: threading.Thread) -> None:
        """Start another thread in place of one that hangs; the old one ends if it ever continues."""
        if thread in self._threads:
            self._threads.discard(thread)
            self._start()

    def end(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until all jobs are done; what is called meanwhile, again and again, may replace threads that hang."""
        for _ in self._threads:
            self._jobs.put(None)
        while at_work := [thread for thread in self._threads if thread.is_alive()]:
            at_work[0].join(POLL_SECONDS)
            meanwhile()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._threads.add(thread)
        thread.start()

    def _work(self) -> None:
        own = threading.current_thread()
        while own in self._threads:
            if (job := self._jobs.get()) is not None:
                job()
                continue
            if own not in self._threads:  # It was replaced while it waited: that was for the other one.
                self._jobs.put(None)
            return
