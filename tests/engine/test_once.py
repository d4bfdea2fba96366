"""Values that are computed when they are first asked for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from codiff_batch.engine.once import once


class Thing:
    """Counts, and waits for another thread at the same place."""

    together = threading.Barrier(2, timeout=10)

    def __init__(self) -> None:
        self.computed = 0

    @once
    def value(self) -> int:
        """What it is."""
        self.together.wait()
        self.computed += 1
        return self.computed


def test_two_threads_compute_for_two_objects_side_by_side_and_once_each() -> None:
    things = [Thing(), Thing()]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda thing: thing.value, things)) == [1, 1]
    assert [thing.value for thing in things] == [1, 1]
    assert Thing.value.__doc__ == "What it is."
