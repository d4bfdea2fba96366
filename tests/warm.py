"""Starts the program without the seconds that its imports take: a process that has made them forks for every start.

:func:`program` stands for ``python -m codiff_batch`` in a command. What it runs is a client, this same file without
site-packages: it hands its streams, arguments, folder and environment over, passes signals on and ends as the program
does. If it is killed, so is the program.

Not for tests that look at the process itself (its memory, but for how that grows; its limits; what it imports), that
set what Python reads before any line of code, such as the locale, or that kill it and go on at once, since it ends a
moment after its client.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)
LARGEST = 1 << 17
"""Bytes of a message."""
SHARED = "CODIFF_TEST_WARM"
"""Variable with the process that the server serves, and its folder."""


def announce() -> None:
    """Have this process, and all that it starts, share one server, which ends with this process."""
    if SHARED not in os.environ:
        import tempfile

        folder = tempfile.TemporaryDirectory(prefix="warm", dir="/tmp")  # a socket's path must be short
        os.environ[SHARED] = f"{os.getpid()} {folder.name}"
        atexit.register(folder.cleanup)


@functools.cache
def _server() -> Path:
    """The socket of the server; the first process that needs it starts it."""
    import fcntl
    import subprocess

    owner, folder = os.environ[SHARED].split(" ", 1)
    place = Path(folder) / "socket"
    with Path(folder, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            server = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", "--server", str(place), owner],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).resolve().parents[1],
                start_new_session=True,  # what a terminal sends comes through the client
            )
            assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    return place


def program(module: str = "codiff_batch", *, cold: bool = False) -> list[str]:
    """The first words of a command that runs the program, or another module as ``python -m`` does.

    Args:
        cold: in a process of its own, imports and all.
    """
    if cold:
        return [sys.executable, "-m", module]
    return [sys.executable, "-SEs", __file__, str(_server()), module]


def script(code: str) -> list[str]:
    """The first words of a command that runs code, as ``python -c`` does."""
    return [*program("-c"), code]


@functools.cache
def path() -> str:
    """``$PATH`` for those who type ``codiff-batch``."""
    import shlex

    script = _server().with_name(str(os.getpid())) / "codiff-batch"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shlex.join(program())} "$@"\n')
    script.chmod(0o755)
    return f"{script.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"


def run_client(place: str, module: str, *arguments: str) -> NoReturn:
    """Have the server run the program, and end as it does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(place)
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        ignored = [number for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN]
        started = {
            "module": module,
            "arguments": arguments,
            "folder": str(Path.cwd()),
            "environment": dict(os.environ),
            "ignored": ignored,
        }
        socket.send_fds(server, [json.dumps(started).encode()], [0, 1, 2])
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


def run_server(place: str, owner: int) -> None:
    """Fork for each client, as long as a process lives."""
    ended = os.pidfd_open(owner)
    _import_all()
    gc.freeze()  # or a program's first collection would copy every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who look after a program
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(place)
        listener.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            if ended in select.select([listener.fileno(), ended], [], [])[0]:
                return
            client, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                _look_after(client)
            client.close()


def _import_all() -> None:
    """Import what the program may import, but for other programs' plug-ins."""
    import codiff_batch

    for module in pkgutil.walk_packages(codiff_batch.__path__, "codiff_batch."):
        if module.name.split(".")[1] not in ("__main__", "comfyui", "gimp"):
            with contextlib.suppress(ModuleNotFoundError):  # Triton's
                importlib.import_module(module.name)


def _look_after(client: socket.socket) -> NoReturn:
    """Run the program for a client and tell how it ended."""
    message, streams, _, _ = socket.recv_fds(client, LARGEST, 3)
    _join_namespaces(client)
    child = os.fork()
    if child == 0:
        client.close()
        _run(json.loads(message), streams)
    for stream in streams:
        os.close(stream)
    try:
        client.send(str(child).encode())
        ended = os.pidfd_open(child)
        if ended not in select.select([ended, client.fileno()], [], [])[0]:
            os.kill(child, signal.SIGKILL)  # as the client was
        client.send(str(os.waitpid(child, 0)[1]).encode())
    finally:
        os._exit(0)


def _join_namespaces(client: socket.socket) -> None:
    """Enter the client's user and mount namespaces, where tests limit the system or mount what they like."""
    peer, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    for kind in ("user", "mnt"):
        there = os.open(f"/proc/{peer}/ns/{kind}", os.O_RDONLY)
        if not os.path.samestat(os.fstat(there), Path(f"/proc/self/ns/{kind}").stat()):
            assert ctypes.CDLL(None, use_errno=True).setns(there, 0) == 0, os.strerror(ctypes.get_errno())
        os.close(there)


def _run(started: dict[str, Any], streams: list[int]) -> NoReturn:
    """Become the program."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN if number in started["ignored"] else signal.SIG_DFL)
    if signal.SIGINT not in started["ignored"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(started["folder"])
    os.environ.clear()
    os.environ.update(started["environment"])
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.argv[1:] = started["arguments"]
    code = 0
    try:
        if started["module"] == "-c":
            exec(sys.argv.pop(1), {"__name__": "__main__"})
        else:
            runpy.run_module(started["module"], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = int(ended.code or 0)
    # As the interpreter ends, but without taking every module down: torch's alone cost a third of a second.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--server":
        run_server(sys.argv[2], int(sys.argv[3]))
    else:
        run_client(*sys.argv[1:])
