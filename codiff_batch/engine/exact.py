"""Torch's flags, set so that the same input gives the same bytes on one device."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_lock = threading.Lock()
_before = ExitStack()
_inside = 0


@contextmanager
def exactly() -> Iterator[None]:
    """No kernel is chosen by timing, and 32-bit floats stay 32-bit floats in convolutions.

    The flags are the process's: they stay set until the last thread is out. If each put back what it had found, one
    thread would take them from another in the middle of a step.
    """
    global _inside
    with _lock:
        if not _inside:
            _before.enter_context(
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
            )
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _before.close()
