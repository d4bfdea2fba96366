"""Exit codes: part of the stable interface, documented in ``docs/command-line.md``."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    """Success; photos may have been skipped."""
    INTERNAL = 1
    """A bug in the program; please report it."""
    USAGE = 2
    """Invalid command line, or options that exclude each other."""
    SOME_FAILED = 3
    """Some photos failed; the others were done."""
    UNAVAILABLE = 4
    """The model, the device or an output folder cannot be used; nothing was done."""
    LOCKED = 5
    """Another run or daemon is using the same output folder; nothing was done."""
    HUNG_UP = 129
    """Stopped because its terminal was closed; photos done so far are whole."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C; photos done so far are whole."""
    NOBODY_READS = 141
    """What was printed went into a pipe that was closed, as ``| head`` does; the rest was not printed."""
    TERMINATED = 143
    """Stopped by SIGTERM, as a service manager does; photos done so far are whole."""
