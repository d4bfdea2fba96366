"""Running out of device memory: how it looks, and how to give back what the failed step held."""

from __future__ import annotations

import gc

import torch

_PHRASES = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of the networks means that memory ran out, on whatever kind of device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The CPU's and Apple's allocators raise a plain RuntimeError.
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _PHRASES)


def give_back(device: torch.device) -> None:
    """Return unused memory to the device.

    Call it after the ``except`` block: inside, the traceback still holds the tensors of the failed step.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
