"""Torch's flags while the engine computes."""

from __future__ import annotations

import threading

import torch

from codiff_batch.engine.exact import exactly


def test_a_thread_that_leaves_takes_no_flags_from_one_that_stays() -> None:
    flags = torch.backends.cudnn
    before = flags.benchmark, flags.deterministic
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with exactly():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    with exactly():
        leave.set()
        thread.join()
        assert (flags.benchmark, flags.deterministic) == (False, True)
    assert (flags.benchmark, flags.deterministic) == before
