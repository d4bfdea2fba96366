"""Imports what the program may import, then forks for each client."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import marshal
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import traceback
import weakref
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tests.warm.client import LARGEST, PASSED_ON


class Running(NamedTuple):
    """A program, and who waits for it."""

    process: int
    client: socket.socket


def main(place: str, owner: int) -> None:
    """Serve as long as a process lives."""
    owner_ended = os.pidfd_open(owner)
    _import_all()
    gc.freeze()  # or a program's first collection would copy every page
    for ending in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        ending.atexit = False  # torch takes its operators away one by one: more work than many a program
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(place)
        listener.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        running: dict[int, Running] = {}
        while True:
            clients = {each.client.fileno(): each for each in running.values()}
            ready = select.select([listener.fileno(), owner_ended, *running, *clients], [], [])[0]
            if owner_ended in ready:
                return
            for number in ready:
                if number in running:
                    ended = running.pop(number)
                    os.close(number)
                    with contextlib.suppress(OSError), ended.client:
                        ended.client.send(str(os.waitpid(ended.process, 0)[1]).encode())
                elif clients.get(number) in running.values():
                    os.kill(clients[number].process, signal.SIGKILL)  # as the client was
            if listener.fileno() in ready:
                _start(listener, running)


def _import_all() -> None:
    """Import what the program may import, but for other programs' plug-ins."""
    import codiff_batch
    import codiff_batch.cli.program  # the first, as in a process of its own

    for module in pkgutil.walk_packages(codiff_batch.__path__, "codiff_batch."):
        if module.name.split(".")[1] not in ("__main__", "comfyui", "gimp"):
            with contextlib.suppress(ModuleNotFoundError):  # Triton's
                importlib.import_module(module.name)


def _start(listener: socket.socket, running: dict[int, Running]) -> None:
    """Fork for the next client."""
    client, _ = listener.accept()
    message, streams, _, _ = socket.recv_fds(client, LARGEST, 3)
    if message:
        child = os.fork()
        if child == 0:
            try:
                _join_namespaces(client)
                for inherited in (listener, client, *(each.client for each in running.values())):
                    inherited.close()
                for number in running:
                    os.close(number)
                _run(marshal.loads(message), streams)
            finally:
                os._exit(1)
        running[os.pidfd_open(child)] = Running(child, client)
        with contextlib.suppress(OSError):
            client.send(str(child).encode())
    for stream in streams:
        os.close(stream)


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
    except BaseException:
        traceback.print_exc()
        code = 1
    # As the interpreter ends, but without taking every module down: torch's alone cost a third of a second.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
