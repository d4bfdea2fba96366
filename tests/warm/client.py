"""Has the server run a program, and ends as that does. It starts hundreds of times, so it imports little."""

from __future__ import annotations

import marshal
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)
LARGEST = 1 << 17
"""Bytes of a message."""


def main(place: str, module: str, *arguments: str) -> None:
    """Hand over what the program gets, then wait for two messages: its process, and the status it ended with."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(place)
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        ignored = [int(number) for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN]
        started = {
            "module": module,
            "arguments": arguments,
            "folder": os.getcwd(),  # noqa: PTH109 (pathlib takes longer than all the rest)
            "environment": dict(os.environ),
            "ignored": ignored,
        }
        socket.send_fds(server, [marshal.dumps(started)], [0, 1, 2])
        child = int(server.recv(LARGEST))
        for number in PASSED_ON:  # also of those ignored here: the program may heed them
            signal.signal(number, lambda number, _: os.kill(child, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        code = os.waitstatus_to_exitcode(int(server.recv(LARGEST) or signal.SIGKILL))
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
