"""Runs the real program, and sends it a signal when a photo reaches a chosen place.

Run as ``python -m tests.faults.signals PLACE SIGNAL ARGUMENTS...`` with PLACE one of decode, network, commit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any


def signal_before(owner: Any, name: str, number: int) -> None:
    """Make a function send this process a signal, once, before it does its work."""
    original: Callable[..., Any] = getattr(owner, name)
    sent = False

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal sent
        if not sent:
            sent = True
            os.kill(os.getpid(), number)
        return original(*arguments, **named)

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    from codiff_batch.batch import process
    from codiff_batch.cli.main import main
    from codiff_batch.engine.torch_backend import TorchBackend
    from codiff_batch.jpeg import JpegPhoto

    place, number, *arguments = sys.argv[1:]
    owner, name = {
        "decode": (JpegPhoto, "decode"),
        "network": (TorchBackend, "start"),
        "commit": (process, "put_output"),
    }[place]
    signal_before(owner, name, int(number))
    main(arguments, prog_name="codiff-batch")
