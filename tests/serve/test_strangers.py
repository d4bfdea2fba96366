"""``codiff-batch serve`` among people: one client's fault is its own, and only what is the server's goes with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codiff_batch.errors import RequestRefused
from codiff_batch.serve.channel import SocketChannel
from codiff_batch.serve.engine import Engine
from codiff_batch.serve.pixels import read_picture, write_picture
from codiff_batch.serve.server import FolderServer
from codiff_batch.serve.turns import Turns
from tests import warm
from tests.photos import jpeg
from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]
KEY = b"k" * 32


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_tiny_model(folder / "tiny")
    return folder


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(models: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(*options: object, cold: bool = False) -> subprocess.Popen[str]:
        command = [*warm.program(cold=cold), "serve", *map(str, options), "--models-dir", str(models)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))
        return started[-1]

    yield begin
    for program in started:
        program.kill()
        program.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "engine"
    place.mkdir(mode=0o700)
    (place / "key").write_bytes(KEY)
    return place


def serving(start: Start, folder: Path, *options: object, **named: bool) -> subprocess.Popen[str]:
    program = start("--folder", folder, "--host", os.getpid(), *options, **named)
    knock(folder, program).close()
    return program


def knock(folder: Path, program: subprocess.Popen[Any]) -> socket.socket:
    """A connection as soon as the server takes one."""
    until = time.monotonic() + 60
    while True:
        caller = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):  # It is named, then heard.
            caller.connect(str(folder / "socket"))
            return caller
        caller.close()
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def ask(client: Any, **request: Any) -> dict[str, Any]:
    client.send_bytes(json.dumps(request).encode())
    assert client.poll(60)
    return json.loads(client.recv_bytes())


@pytest.mark.slow
@pytest.mark.xdist_group("waiting")
def test_what_lay_in_the_folder_before_stays(start: Start, folder: Path) -> None:
    (folder / "2019").mkdir()
    (folder / "2019/wedding.jpg").write_bytes(b"x")
    (folder / "camera.raw").write_bytes(b"x")
    os.utime(folder / "camera.raw", (1, 1))
    time.sleep(1.2)
    program = serving(start, folder, "--idle", 1)
    with Client(str(folder / "socket"), authkey=KEY) as client:
        picture = {"file": str(folder / "camera.raw"), "width": 1, "height": 1, "channels": 3, "type": "u8"}
        assert ask(client, do="estimate", picture=picture)["event"] == "error"
    assert program.wait(60) == 0
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == ["2019", "2019/wedding.jpg", "camera.raw"]


@pytest.mark.slow
@pytest.mark.xdist_group("waiting")
def test_a_picture_that_a_killed_client_had_not_named_yet_goes_with_the_server(start: Start, folder: Path) -> None:
    program = serving(start, folder, "--idle", 1)
    (folder / "123-in.raw").write_bytes(b"x")
    for name in ("camera.raw", "2019-interview.raw", "2019 trip-in.raw"):
        (folder / name).write_bytes(b"x")
    assert program.wait(60) == 0
    assert sorted(file.name for file in folder.iterdir()) == ["2019 trip-in.raw", "2019-interview.raw", "camera.raw"]


@pytest.mark.slow
def test_a_closed_terminal_ends_the_server_tidily(start: Start, folder: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # The tests may have been started with nohup.
    try:
        program = serving(start, folder)
    finally:
        signal.signal(signal.SIGHUP, before)
    with Client(str(folder / "socket"), authkey=KEY) as client:
        ask(client, do="hello")  # Who is answered is answered by a server that hears signals.
    program.send_signal(signal.SIGHUP)
    assert program.wait(60) == 0
    assert not folder.exists()


@pytest.mark.slow
def test_what_a_killed_server_left_is_taken_over_but_nothing_else(start: Start, folder: Path) -> None:
    program = serving(start, folder, cold=True)
    program.kill()
    program.wait()
    assert (folder / "socket").exists()
    again = start("--folder", folder, "--host", os.getpid(), "--idle", 1)
    assert again.wait(60) == 0
    folder.mkdir(mode=0o700)
    (folder / "key").write_bytes(KEY)
    (folder / "socket").write_bytes(b"mine")
    program = start("--folder", folder, "--host", os.getpid())
    assert program.wait(60) == 4
    assert "something else is called socket" in program.communicate()[1]
    assert (folder / "socket").read_bytes() == b"mine"


@pytest.mark.slow
@pytest.mark.xdist_group("waiting")
def test_where_no_thread_is_left_a_client_is_turned_away_and_the_next_is_served(folder: Path) -> None:
    script = (
        "import sys, threading\n"
        "from codiff_batch.cli.main import main\n"
        "start, refused = threading.Thread.start, []\n"
        "def scarce(thread):\n"
        "    if '_welcome' in repr(getattr(thread, '_target', '')) and not refused:\n"
        "        refused.append(thread)\n"
        "        raise RuntimeError('can\\'t start new thread')\n"
        "    start(thread)\n"
        "threading.Thread.start = scarce\n"
        "main(sys.argv[1:])\n"
    )
    command = [
        sys.executable,
        "-c",
        script,
        "serve",
        "--folder",
        str(folder),
        "--host",
        str(os.getpid()),
        "--idle",
        "1",
    ]
    with subprocess.Popen(command, cwd=ROOT) as program:
        patience = threading.Timer(60, program.kill)  # Whoever waits for an answer would wait for ever.
        patience.start()
        with knock(folder, program) as turned_away:
            assert turned_away.recv(1) == b""
        with Client(str(folder / "socket"), authkey=KEY) as client:
            assert ask(client, do="hello")["event"] == "done"
        assert program.wait() == 0
        patience.cancel()


@pytest.mark.slow
def test_a_client_is_heard_through_a_pipe_that_does_not_block() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    command = [sys.executable, "-m", "codiff_batch", "serve", "--stdio"]
    with subprocess.Popen(command, cwd=ROOT, stdin=ours, stdout=subprocess.PIPE, text=True) as program:
        os.close(ours)
        for _ in range(2):
            os.write(theirs, b'{"do": "hello"}\n')
            assert program.stdout is not None
            assert json.loads(program.stdout.readline())["event"] == "done"
        os.close(theirs)
        assert program.wait(60) == 0


@pytest.mark.slow
def test_answers_that_cannot_be_written_end_the_engine_quietly() -> None:
    command = [sys.executable, "-m", "codiff_batch", "serve", "--stdio"]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            command, cwd=ROOT, input='{"do": "hello"}\n', stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_photo_itself_is_never_the_file_for_a_result(tmp_path: Path) -> None:
    photo, link = tmp_path / "photo.jpg", tmp_path / "again.jpg"
    photo.write_bytes(jpeg(20))
    link.hardlink_to(photo)
    for into in (photo, link):
        request = {"do": "restore", "into": str(into), "jpeg": str(photo)}
        with pytest.raises(RequestRefused, match="the photo itself"):
            Engine("cpu").answer(request, lambda done, total: None)
    assert photo.read_bytes() == jpeg(20)


@pytest.mark.parametrize("key", [b"", b"short"])
def test_a_key_that_can_be_guessed_is_refused(start: Start, folder: Path, key: bytes) -> None:
    (folder / "key").write_bytes(key)
    program = start("--folder", folder, "--host", os.getpid())
    assert program.wait(60) == 4
    assert "at least 16 bytes" in program.communicate()[1]


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o702])
def test_a_folder_that_others_may_enter_is_refused(start: Start, folder: Path, mode: int) -> None:
    folder.chmod(mode)
    program = start("--folder", folder, "--host", os.getpid())
    assert program.wait(60) == 4
    words = program.communicate()[1]
    assert "nobody else may enter" in words
    assert words.count("\n") == 1


@pytest.mark.slow
@pytest.mark.xdist_group("waiting")
def test_a_silent_client_keeps_nobody_waiting(start: Start, folder: Path) -> None:
    serving(start, folder)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(folder / "socket"))
        with (
            Client(str(folder / "socket"), authkey=KEY) as silent,
            Client(str(folder / "socket"), authkey=KEY) as third,
        ):
            assert ask(third, do="hello")["event"] == "done"
            assert ask(silent, do="hello")["event"] == "done"
        stranger.settimeout(20)
        until = time.monotonic() + 20
        while stranger.recv(1000):  # at first the challenge, then, in a while, the end
            assert time.monotonic() < until


@pytest.mark.slow
@pytest.mark.parametrize("half", [b"", b"\0\0\0\x64"], ids=["deaf", "stopped within a message"])
def test_a_client_that_stops_at_work_keeps_nobody_waiting(start: Start, folder: Path, half: bytes) -> None:
    """A host that hangs reads no progress any more; a restoration tells more of it than a socket holds."""
    serving(start, folder)
    (folder / "in.raw").write_bytes(bytes(1200 * 1200 * 3))
    out = folder / "out.raw"
    with Client(str(folder / "socket"), authkey=KEY) as hung, Client(str(folder / "socket"), authkey=KEY) as other:
        picture = told(folder / "in.raw", width=1200, height=1200)
        hung.send_bytes(json.dumps({"do": "restore", "model": "tiny", "into": str(out), "picture": picture}).encode())
        assert hung.poll(120)  # at work
        os.write(hung.fileno(), half)
        until = time.monotonic() + 300
        while not (out.exists() and out.stat().st_size):
            assert ask(other, do="hello")["event"] == "done"
            assert time.monotonic() < until
            time.sleep(0.2)


def test_clients_that_leave_at_once_are_all_forgotten(folder: Path) -> None:
    """And nobody else: what a client that stays has named is removed when the server ends."""
    server = FolderServer(folder, os.getpid(), 60, Engine("cpu"))
    pictures: list[set[Path]] = [set() for _ in range(3)]
    first, second, staying = pictures
    looked, other_left = threading.Event(), threading.Event()

    class Slow(list[set[Path]]):
        def __iter__(self) -> Iterator[set[Path]]:
            looked.set()
            other_left.wait(0.5)  # in vain, as it should be
            return super().__iter__()

    server._spoken = Slow(pictures)
    leaving = threading.Thread(target=server._remove, args=(first,))
    leaving.start()
    assert looked.wait(5)
    server._remove(second)
    other_left.set()
    leaving.join()
    assert [each is staying for each in server._spoken] == [True]


def test_what_is_offered_is_sent_to_a_client_that_listens() -> None:
    here, there = Pipe()
    with contextlib.closing(SocketChannel(here)) as channel:
        for number in range(10_000):
            channel.offer({"number": number})
        assert json.loads(there.recv_bytes()) == {"number": 0}
        there.send_bytes(b'{"do": "hello"}')
        assert channel.receive() == {"do": "hello"}
        there.close()
        assert channel.receive() is None
        assert channel.receive() is None
        assert channel.waiting()
    assert here.closed


def test_turns_are_given_in_the_order_of_asking() -> None:
    turns, order = Turns(), list[str]()
    held = threading.Event()

    def client(name: str) -> None:
        with turns.mine():
            order.append(name)
            held.wait(5)

    threads = []
    for name in "abc":
        threads.append(threading.Thread(target=client, args=(name,)))
        threads[-1].start()
        time.sleep(0.1)
    held.set()
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "c"]


HOSTILE = [
    b"[" * 100_000, b'{"a":' * 100_000, b'{"do": ' + b"1" * 10_000 + b"}", b"\xff\xfe", b"x" * 3_000_000,
    b'{"do": ["x"]}', b'{"id": [[[[1]]]], "do": "hello"}', b'{"do": "estimate", "picture": []}',
]  # fmt: skip


def test_no_message_ends_the_engine(start: Start) -> None:
    program = start("--stdio")
    assert program.stdin is not None
    assert program.stdout is not None
    for message in HOSTILE:
        program.stdin.buffer.write(message + b"\n")
    program.stdin.buffer.write(b'{"id": "last", "do": "hello"}\n')
    program.stdin.flush()
    answers = [json.loads(program.stdout.readline()) for _ in range(len(HOSTILE) + 1)]
    assert (answers[-1]["id"], answers[-1]["event"]) == ("last", "done")
    assert [answer["event"] for answer in answers].count("error") == len(HOSTILE) - 1


def test_no_message_ends_the_server_for_the_others(start: Start, folder: Path) -> None:
    serving(start, folder)
    with Client(str(folder / "socket"), authkey=KEY) as good:
        for message in HOSTILE:
            with contextlib.suppress(EOFError, OSError), Client(str(folder / "socket"), authkey=KEY) as bad:
                bad.send_bytes(message)
                bad.poll(0.2)
        assert ask(good, do="hello")["event"] == "done"


def told(path: object, **changes: object) -> dict[str, object]:
    return {"file": str(path), "width": 8, "height": 8, "channels": 3, "type": "u8", **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"width": float("inf")}, {"width": -1}, {"width": 10**9, "height": 10**9}, {"type": ["u8"]}, {"channels": 5},
        {"file": "/dev/zero"}, {"file": "x\0y"}, {"file": 5}, {"width": 9}, {"width": None}, {"type": "u16"},
    ],
)  # fmt: skip
def test_a_picture_that_is_none_is_refused_in_a_sentence(tmp_path: Path, changes: dict[str, object]) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(192))
    with pytest.raises(RequestRefused):
        read_picture(told(tmp_path / "a.raw", **changes))


def test_pipes_and_links_are_neither_read_nor_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.raw")
    (tmp_path / "link.raw").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_bytes(b"x")
    with pytest.raises(RequestRefused):
        read_picture(told(tmp_path / "pipe.raw"))
    for name in ("pipe.raw", "link.raw", "gone/x.raw", "."):
        with pytest.raises(RequestRefused):
            write_picture(tmp_path / name, np.zeros(3, np.uint8))
    assert (tmp_path / "precious").read_bytes() == b"x"
