"""Between the host and a device; on CUDA nobody waits for a copy unless the result is needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def send(array: NDArray[Any], place: torch.device) -> Tensor:
    """Copy an array to a device; on CUDA from pinned memory, so that the host does not wait.

    Elsewhere the copy must be waited for: Apple's GPU reads the buffer later, when it may have changed.
    """
    # torch does not accept read-only arrays, such as Pillow's.
    host = torch.from_numpy(np.array(array, order="C", copy=not array.flags.writeable or None))
    if place.type != "cuda":
        return host.to(place)
    pinned = torch.empty(host.shape, dtype=host.dtype, pin_memory=True)
    pinned.copy_(host)
    return pinned.to(place, non_blocking=True)


def fetched(tensor: Tensor) -> Tensor:
    """A copy on the host; on CUDA one that is under way."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


class UnderWay:
    """Work that has been queued on a device up to now.

    Args:
        timed: counts the time spent waiting.
    """

    def __init__(self, device: torch.device, timed: Callable[[], Any] = nullcontext) -> None:
        self._timed = timed
        self._done: torch.cuda.Event | None = None
        if device.type == "cuda":
            # A thread that waits for it sleeps: others have photos to decode and encode.
            self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            # On the device's own stream: waiting on another device's would read the buffers too early.
            self._done.record(torch.cuda.current_stream(device))

    def wait(self) -> bool:
        """Wait until it is done."""
        if self._done is not None:
            with self._timed():
                self._done.synchronize()
        return True
