"""The command line as a process of its own, which ends as soon as its work has."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

_code: int | None = None
"""What :func:`run` ended with; None while it has not, and after a mistake, which the interpreter shows."""


def _end_at_once() -> None:
    """Leave it to the system to free the memory; the interpreter takes a third of a second for torch's modules."""
    if _code is not None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(_code)


# Before libraries are imported: what was registered first is called last, after all that they have to do at the end.
atexit.register(_end_at_once)


def run() -> None:
    """Run the program with the arguments of this process, and exit with its code."""
    from codiff_batch.cli.main import main

    try:
        main(prog_name="codiff-batch")
    except SystemExit as ended:
        global _code
        _code = int(ended.code or 0)
        raise
