"""A step as a CUDA graph: recorded once for each shape, then started as a whole instead of kernel by kernel.

torch's own graphs (``mode="reduce-overhead"``) are kept for each thread, and a batch brings a thread of its own, so
they would be recorded again with each batch; and they cannot be dropped where memory is short.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Step = Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]


MOST = 16
"""Graphs at most: small pictures come with tokens in many numbers, and each graph takes memory."""

_one_at_a_time = threading.Lock()
"""A process can record one graph at a time."""


class _Recorded(NamedTuple):
    """A graph, and the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    given: list[Tensor]
    made: Tensor


class Recorded:
    """Replays a step on a GPU; calls are like the step's own, in inference mode and with the GPU as the current one.

    If the step cannot be recorded, it is called from then on.

    Args:
        step: of (images, tokens, condition); it must not look into its tensors.
        out_of_memory: recognises a lack of memory, for which somebody else has a remedy.
    """

    def __init__(self, step: Step, out_of_memory: Callable[[BaseException], bool]) -> None:
        self._step, self._out_of_memory = step, out_of_memory
        self._recorded: dict[object, _Recorded] = {}
        self._possible = True
        # They run one after the other and keep nothing but their results, so they may share memory.
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, images: Tensor, tokens: Tensor, condition: dict[str, Tensor]) -> Tensor:
        """Take the step; the result is the caller's."""
        names = sorted(condition)
        given = [images, tokens, *(condition[name] for name in names)]
        # Another float format is another graph.
        kind = (*names, *(each.shape for each in given), torch.is_autocast_enabled("cuda"))
        if self._possible and kind not in self._recorded and len(self._recorded) < MOST:
            self._record(kind, given, names)
        if (recorded := self._recorded.get(kind)) is None:
            return self._step(images, tokens, condition)
        for there, each in zip(recorded.given, given, strict=True):
            there.copy_(each)
        recorded.graph.replay()
        # On the same stream, so it is copied before the next replay writes there.
        return recorded.made.clone()

    @property
    def used(self) -> bool:
        """Whether there are graphs."""
        return bool(self._recorded)

    def forget(self) -> None:
        """Release the memory of all graphs."""
        if self.used:
            torch.cuda.synchronize()  # Some may be at work.
            self._recorded.clear()

    def _record(self, kind: object, given: list[Tensor], names: list[str]) -> None:
        """Record the step for tensors like these."""
        kept, device = [each.clone() for each in given], given[0].device

        def step() -> Tensor:
            return self._step(kept[0], kept[1], dict(zip(names, kept[2:], strict=True)))

        # Not torch's own for recording, which is on the GPU that was the first to record.
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        try:
            with _one_at_a_time:
                # Recording does not compute, and forbids what libraries and compilers do when they are called first.
                stream.wait_stream(torch.cuda.current_stream(device))
                with torch.cuda.stream(stream):
                    step()
                graph = torch.cuda.CUDAGraph()
                # Other threads may go on using the GPU meanwhile.
                with torch.cuda.graph(graph, self._pool, stream, capture_error_mode="thread_local"):
                    made = step()
            self._recorded[kind] = _Recorded(graph, kept, made)
        except Exception as error:
            if self._out_of_memory(error):
                raise
            self._possible = False
            reason = " ".join(str(error).split())[:200]
            log.warning("without CUDA graphs, because a step could not be recorded: %s", reason)
