"""Several tiles at a time on a processor, each on a few of its threads.

All threads on one tile wait for each other after each layer, the longer the more there are. With a share of the threads
for each of several tiles they wait less (two tiles on a thread each took 0.8 of the time of two threads on one tile).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from codiff_batch.engine.backend import Landing
from codiff_batch.engine.measured import remembered
from codiff_batch.engine.stream import Kept, Levels
from codiff_batch.errors import DeviceUnavailable

MEMORY_A_LANE = 500_000_000
"""Bytes that a tile of a bundled model needs beside the weights; 300 MB were measured for the largest."""

NEARLY = 1.03
"""Fewer lanes, which take less memory, are used if the best number is at most so many times faster."""

TURNS = 6
"""How often each number of lanes is timed."""
SECONDS = 3.0
"""No turn begins later."""

T = TypeVar("T")


class Lanes:
    """Threads that work on a step each, with a share of torch's own threads.

    Args:
        count: of steps at a time, at most.
        threads: that they have together.
    """

    def __init__(self, count: int, threads: int) -> None:
        self.count, self._threads = count, threads
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def submit(self, step: Callable[[], T], steps: int) -> Future[T]:
        """Take a step.

        Args:
            step: what to do.
            steps: how many are under way or can follow at once, this one included. If they are few, each gets more
                threads: a single small photo has all of them.
        """
        lanes = min(self.count, 1 << (steps - 1).bit_length())
        pool = self._pools[lanes] = self._pools.get(lanes) or _pool(lanes, self._threads // lanes)
        return pool.submit(step)


def _pool(lanes: int, threads: int) -> ThreadPoolExecutor:
    ours = torch.get_num_threads()
    pool = ThreadPoolExecutor(lanes, "lane", _use_threads, (max(1, threads),))
    started = threading.Barrier(lanes + 1)
    try:
        for _ in range(lanes):
            pool.submit(started.wait)
    except RuntimeError as error:
        started.abort()  # Or those that did start would wait for ever, and the program for them.
        pool.shutdown(wait=False, cancel_futures=True)
        raise DeviceUnavailable(f"this program may start no more threads: {error}; lower OMP_NUM_THREADS") from error
    started.wait()
    # Threads that others start later take over what was set last, anywhere.
    torch.set_num_threads(ours)
    return pool


def _use_threads(number: int) -> None:
    """Set how many of torch's threads this thread uses."""
    torch.get_num_threads()  # The first question in a thread sets them to what was set last, so it must come before.
    torch.set_num_threads(number)


class InLane:
    """A step in a lane; its tiles are blended by the thread that waits, one batch after another.

    Args:
        levels: of the tiles.
        within_memory: runs the wait, and returns None if memory ran out.
        blend: adds the tiles to their pictures.
    """

    def __init__(
        self,
        levels: Future[Tensor],
        within_memory: Callable[[Callable[[], bool]], bool | None],
        blend: Callable[[Tensor], None],
    ) -> None:
        self._levels, self._within_memory, self._blend = levels, within_memory, blend

    def wait(self) -> bool:
        """Wait until it is done; return False if memory ran out."""

        def step() -> bool:
            self._blend(self._levels.result())
            return True

        return bool(self._within_memory(step))


class LandingLater:
    """A picture that lands when it is asked for, after its last tile has been waited for."""

    def __init__(self, land: Callable[[], Landing]) -> None:
        self._land = land

    def levels(self) -> Levels | Kept | None:
        """Return what the landing itself does."""
        return self._land().levels()


def choose_lanes(free: int, folder: Path | None = None) -> Lanes | None:
    """Return the lanes in which this machine is fastest, by a measurement that is kept; None if one is enough.

    Args:
        free: bytes of memory that they may take together.
        folder: where the measurement is kept, instead of the user's cache directory.
    """
    threads = torch.get_num_threads()
    fitting = min(threads, free // MEMORY_A_LANE)
    if fitting < 2:
        return None
    count = min(fitting, remembered("lanes", partial(_fastest, threads), folder))
    return Lanes(count, threads) if count > 1 else None


def _fastest(threads: int) -> int:
    """The smallest number of lanes that is nearly as fast as the best, of those that leave no thread over.

    They take turns, so that other programs disturb all of them; the best time of each counts. Where more threads were
    asked for than there are cores, a turn may take long, and a few have to do.
    """
    shared = [Lanes(count, threads) for count in range(1, threads + 1) if threads % count == 0]
    rates, started = [0.0] * len(shared), time.perf_counter()
    for _ in range(TURNS):
        rates = [max(rate, _rate(each)) for each, rate in zip(shared, rates, strict=True)]
        if time.perf_counter() - started > SECONDS:
            break
    return next(each.count for each, rate in zip(shared, rates, strict=True) if NEARLY * rate >= max(rates))


def _rate(lanes: Lanes) -> float:
    """Steps a second when all lanes are busy; a step has layers like those of the bundled models."""
    layers = [
        (
            torch.rand(1, channels, side, side).contiguous(memory_format=torch.channels_last),
            torch.rand(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last),
        )
        for channels, side in ((48, 192), (80, 96), (128, 48), (192, 24))
    ]

    def step() -> None:
        with torch.inference_mode():
            for maps, weight in layers:
                F.gelu(F.conv2d(maps, weight, padding=1))

    started = time.perf_counter()
    for done in [lanes.submit(step, lanes.count) for _ in range(2 * lanes.count)]:
        done.result()
    return 2 * lanes.count / (time.perf_counter() - started)
