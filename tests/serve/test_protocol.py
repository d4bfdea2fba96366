"""``codiff-batch serve``: the protocol, spoken with a real engine process."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from codiff_batch.engine import Restorer, restore_photo
from codiff_batch.jpeg import JpegPhoto
from tests import warm
from tests.tiny_model import make_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("engine")]  # one process starts one for most of them
ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "examples/photos/shrine-path-q10.jpg"
SIDE = 336
HELLOS = [{"do": "hello", "id": number} for number in range(2, 7)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_tiny_model(folder / "tiny")
    return folder


def start(models: Path, *options: str, cold: bool = False) -> subprocess.Popen[str]:
    command = [*warm.program(cold=cold), "serve", *options, "--models-dir", str(models), "--device", "cpu"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


class Lines:
    """A client on standard input and output."""

    def __init__(self, models: Path) -> None:
        self.program = start(models, "--stdio")
        self.progress: list[tuple[int, int]] = []

    def send(self, text: str) -> None:
        assert self.program.stdin is not None
        self.program.stdin.write(text + "\n")
        self.program.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.program.stdout is not None
        while True:
            message = json.loads(self.program.stdout.readline())
            if message["event"] != "progress":
                return message
            self.progress.append((message["done"], message["total"]))

    def ask(self, **request: Any) -> dict[str, Any]:
        self.send(json.dumps(request))
        return self.answer()

    def close(self) -> int:
        assert self.program.stdin is not None
        self.program.stdin.close()
        return self.program.wait(120)


@pytest.fixture(scope="module")
def engine(models: Path) -> Iterator[Lines]:
    client = Lines(models)
    yield client
    assert client.close() == 0


def raw(path: Path, values: np.ndarray) -> dict[str, Any]:
    values.tofile(path)
    height, width, channels = values.shape
    kind = {"uint8": "u8", "uint16": "u16", "float32": "float"}[values.dtype.name]
    return {"file": str(path), "width": width, "height": height, "channels": channels, "type": kind}


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> JpegPhoto:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.open(PHOTO).crop((0, 0, SIDE, SIDE)).save(path, quality=10)
    return JpegPhoto.open(path)


def test_it_says_who_it_is_and_which_models_there_are(engine: Lines) -> None:
    told = engine.ask(id="a", do="hello")
    assert (told["id"], told["event"], told["protocol"]) == ("a", "done", 1)
    assert {"compact", "tiny"} <= {model["name"] for model in told["models"]}


def test_with_its_file_a_picture_becomes_what_the_engine_makes_of_the_file(
    engine: Lines, models: Path, tmp_path: Path, photo: JpegPhoto
) -> None:
    # A host's decoder is a little off, which must not matter.
    seen = (photo.pixels() ^ 1).astype(np.uint8)
    picture, out = raw(tmp_path / "in", seen), tmp_path / "out"
    engine.progress.clear()
    told = engine.ask(id=1, do="restore", model="tiny", picture=picture, into=str(out), jpeg=str(photo.path))
    assert told["event"] == "done", told
    assert told["header_qf"] == 10
    expected = restore_photo(photo, Restorer.load("tiny", "cpu", models_dir=models))
    assert np.array_equal(np.fromfile(out, np.uint8).reshape(seen.shape), expected)
    assert engine.progress[-1][0] == engine.progress[-1][1] == len(engine.progress)


def test_a_region_is_restored_as_a_part_of_the_whole(engine: Lines, tmp_path: Path, photo: JpegPhoto) -> None:
    picture, out = raw(tmp_path / "in", photo.pixels()), tmp_path / "out"
    request = {"do": "restore", "model": "compact", "picture": picture, "into": str(out), "jpeg": str(photo.path)}
    engine.ask(**request)
    whole = np.fromfile(out, np.uint8).reshape(SIDE, SIDE, 3).astype(int)
    assert engine.ask(**request, region=[201, 99, 57, 43])["event"] == "done"
    part = np.fromfile(out, np.uint8).reshape(43, 57, 3)
    difference = np.abs(part - whole[99:142, 201:258])
    assert difference.mean() < 0.35  # it sees less around itself
    assert difference.mean() < np.abs(whole - photo.pixels())[99:142, 201:258].mean() / 5


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_values_keep_what_is_finer_than_a_level_and_alpha(
    engine: Lines, tmp_path: Path, channels: int, dtype: type
) -> None:
    rng = np.random.default_rng(channels)
    top = 1.4 if dtype is np.float32 else np.iinfo(dtype).max + 1
    values = (rng.random((40, 56, channels)) * top).astype(dtype)
    out = tmp_path / "out"
    request = {"do": "restore", "model": "tiny", "picture": raw(tmp_path / "in", values), "into": str(out)}
    engine.ask(**request, strength=0)
    assert np.array_equal(np.fromfile(out, dtype).reshape(values.shape), values)
    assert engine.ask(**request)["event"] == "done"
    restored = np.fromfile(out, dtype).reshape(values.shape)
    colours = 1 if channels < 3 else 3
    assert not np.array_equal(restored[..., :colours], values[..., :colours])
    assert np.array_equal(restored[..., colours:], values[..., colours:])


def test_a_quality_by_hand_takes_the_place_of_what_the_file_says(
    engine: Lines, tmp_path: Path, photo: JpegPhoto
) -> None:
    picture, out = raw(tmp_path / "in", photo.pixels()), tmp_path / "out"
    request = {"do": "restore", "model": "compact", "picture": picture, "into": str(out), "jpeg": str(photo.path)}
    results = []
    for qf in (0, 5, 60):
        told = engine.ask(**request, qf=qf)
        assert qf in (0, told["qf"])
        results.append(np.fromfile(out, np.uint8).astype(int))
    changes = [np.abs(result - photo.pixels().ravel()).mean() for result in results]
    assert changes[1] > changes[2]


def gimps_settings(quality: int, tables: int = 0) -> str:
    return bytes([3, quality, 3, tables, 2, 2, 1, 1, 1, 1]).hex()


def test_remembered_settings_stand_in_for_the_file_while_the_grid_fits(
    engine: Lines, tmp_path: Path, photo: JpegPhoto
) -> None:
    pixels = photo.pixels()
    told = engine.ask(do="estimate", picture=raw(tmp_path / "in", pixels), jpeg_settings=gimps_settings(10))
    assert told["header_qf"] == 10
    assert told["qf"] == pytest.approx(10, abs=2)
    cropped = np.ascontiguousarray(pixels[3:, 5:])
    told = engine.ask(do="estimate", picture=raw(tmp_path / "in", cropped), jpeg_settings=gimps_settings(10))
    assert told["header_qf"] is None


def test_tables_of_their_own_are_read_from_the_settings(engine: Lines, tmp_path: Path) -> None:
    tables = [[17 + i // 4 for i in range(64)], [30 + i // 2 for i in range(64)]]
    Image.open(PHOTO).save(tmp_path / "odd.jpg", qtables=tables, subsampling="4:2:0")
    pixels = JpegPhoto.open(tmp_path / "odd.jpg").pixels()
    values = b"".join(value.to_bytes(2, "big") for table in tables for value in table)
    settings = gimps_settings(0, tables=2) + values.hex()
    told = engine.ask(do="estimate", picture=raw(tmp_path / "in", pixels), jpeg_settings=settings)
    header = JpegPhoto.open(tmp_path / "odd.jpg").header
    assert told["header_qf"] == pytest.approx(header.qf, abs=0.1)


def test_what_was_painted_stays(engine: Lines, tmp_path: Path, photo: JpegPhoto) -> None:
    """The file no longer tells what the picture is."""
    painted = photo.pixels().copy()
    painted[200:210, 300:310] = (0, 255, 0)
    picture, out = raw(tmp_path / "in", painted), tmp_path / "out"
    told = engine.ask(do="restore", model="compact", picture=picture, into=str(out), jpeg=str(photo.path))
    assert told["header_qf"] is None
    patch = np.fromfile(out, np.uint8).reshape(painted.shape)[203:207, 303:307].astype(int)
    assert np.abs(patch - (0, 255, 0)).mean() < 40


@pytest.mark.parametrize("where", [(slice(None), slice(None)), (slice(200, 230), slice(300, 330))], ids=["all", "spot"])
def test_what_was_made_a_little_brighter_stays_so(
    engine: Lines, tmp_path: Path, photo: JpegPhoto, where: tuple[slice, slice]
) -> None:
    """By less than decoders may differ, but in one direction."""
    source = photo.pixels()
    edited = source.copy()
    edited[where] = np.minimum(edited[where], 249) + 6
    picture, out = raw(tmp_path / "in", edited), tmp_path / "out"
    told = engine.ask(do="restore", model="fast", picture=picture, into=str(out), jpeg=str(photo.path))
    assert told["header_qf"] is None
    restored = np.fromfile(out, np.uint8).reshape(edited.shape)
    assert restored[where].mean() == pytest.approx(edited[where].mean(), abs=3)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"do": "dance"}, "unknown request 'dance'"),
        ({"do": "restore"}, "'into'"),
        ({"do": "restore", "into": "x"}, "'picture' is missing"),
        ({"do": "estimate", "picture": {"file": "gone", "width": 1, "height": 1, "channels": 3, "type": "u8"}}, "gone"),
        ({"do": "estimate", "picture": {"file": "gone", "type": "u7"}}, "u7"),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence(engine: Lines, request_: dict[str, Any], words: str) -> None:
    told = engine.ask(id=9, **request_)
    assert (told["id"], told["event"]) == (9, "error")
    assert words in told["message"]


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_no_request(engine: Lines, number: str) -> None:
    engine.send(f'{{"do": "hello", "id": {number}}}')
    told = engine.answer()
    assert (told["id"], told["event"]) == (None, "error")
    assert "unknown request" in told["message"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": 2}, "'strength' must be a number from 0 to 1"),
        ({"strength": "much"}, "'strength'"),
        ({"texture": -1}, "'texture' must be a number from 0 to 1"),
        ({"region": [0, 0, 9, 9]}, "does not lie in a picture of 8x8"),
        ({"region": 7}, "'region' must be"),
        ({"model": "gone"}, "no model named 'gone'"),
        ({"precision": "fp8"}, "'precision' must be auto, fp32, bf16"),
        ({"jpeg_settings": "zz"}, "hexadecimal"),
    ],
)
def test_wrong_options_are_refused_and_nothing_is_written(
    engine: Lines, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    picture = raw(tmp_path / "in", np.zeros((8, 8, 3), np.uint8))
    told = engine.ask(**{"do": "restore", "model": "tiny", "picture": picture, "into": str(tmp_path / "o"), **options})
    assert words in told["message"]
    assert not (tmp_path / "o").exists()


def test_what_is_no_message_at_all_is_refused_and_the_next_is_heard(engine: Lines) -> None:
    engine.send("this is not JSON")
    assert engine.answer()["event"] == "error"
    engine.send("[1, 2]")
    assert engine.answer()["event"] == "error"
    assert engine.ask(do="hello")["event"] == "done"


def test_cancel_ends_a_request_between_two_tiles(models: Path, tmp_path: Path) -> None:
    client = Lines(models)
    picture = raw(tmp_path / "in", np.tile(np.asarray(Image.open(PHOTO)), (4, 4, 1)))
    client.send(json.dumps({"do": "restore", "model": "fast", "picture": picture, "into": str(tmp_path / "out")}))
    client.send(json.dumps({"do": "cancel"}))
    assert client.answer()["event"] == "cancelled"
    assert len(client.progress) < 9
    assert not (tmp_path / "out").exists()
    assert client.ask(do="hello")["event"] == "done"
    assert client.close() == 0


def test_requests_that_arrive_during_another_are_answered_in_their_turn(models: Path, tmp_path: Path) -> None:
    client = Lines(models)
    patience = threading.Timer(60, client.program.kill)
    patience.start()
    picture = raw(tmp_path / "in", np.tile(np.asarray(Image.open(PHOTO))[:256, :256], (1, 4, 1)))
    request = {"do": "restore", "model": "tiny", "picture": picture, "into": str(tmp_path / "out")}
    client.send("\n".join(json.dumps(message) for message in [{**request, "id": 1}, *HELLOS, {**request, "id": 9}]))
    assert [(client.answer()["id"], client.program.poll()) for _ in range(7)] == [
        (i, None) for i in (1, 2, 3, 4, 5, 6, 9)
    ]
    patience.cancel()
    assert client.close() == 0


def test_whoever_closes_the_input_ends_the_engine_in_the_middle_of_its_work(models: Path, tmp_path: Path) -> None:
    client = Lines(models)
    picture = raw(tmp_path / "in", np.tile(np.asarray(Image.open(PHOTO)), (4, 4, 1)))
    client.send(json.dumps({"do": "restore", "model": "fast", "picture": picture, "into": str(tmp_path / "out")}))
    assert client.close() == 0
    assert not (tmp_path / "out").exists()


@pytest.fixture
def host() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for the host program."""
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "engine"
    place.mkdir(mode=0o700)
    (place / "key").write_bytes(secrets.token_bytes(32))
    return place


def connect(folder: Path) -> Any:
    for _ in range(300):
        with contextlib.suppress(OSError):
            return Client(str(folder / "socket"), authkey=(folder / "key").read_bytes())
        time.sleep(0.1)
    raise AssertionError("no engine")


def test_clients_come_and_go_and_leave_no_pictures(
    models: Path, folder: Path, host: subprocess.Popen[bytes], photo: JpegPhoto
) -> None:
    program = start(models, "--folder", str(folder), "--host", str(host.pid))
    for _ in range(2):
        client = connect(folder)
        picture = raw(folder / "1-in.raw", photo.pixels())
        request = {"do": "restore", "model": "tiny", "picture": picture, "into": str(folder / "1-out.raw")}
        client.send_bytes(json.dumps(request).encode())
        while json.loads(client.recv_bytes())["event"] == "progress":
            pass
        assert (folder / "1-out.raw").stat().st_size == photo.pixels().size
        client.close()
        for _ in range(100):
            if not list(folder.glob("*.raw")):
                break
            time.sleep(0.05)
        assert not list(folder.glob("*.raw"))
    with pytest.raises(AuthenticationError):
        Client(str(folder / "socket"), authkey=b"guessed")
    assert connect(folder)
    host.kill()
    host.wait()
    assert program.wait(60) == 0
    assert not folder.exists()


def test_a_second_engine_in_the_folder_is_refused(models: Path, folder: Path, host: subprocess.Popen[bytes]) -> None:
    program = start(models, "--folder", str(folder), "--host", str(host.pid))
    connect(folder).close()
    second = start(models, "--folder", str(folder), "--host", str(host.pid))
    assert second.wait(60) == 4
    assert connect(folder)
    program.send_signal(signal.SIGTERM)
    assert program.wait(60) == 0
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="sends a signal to one thread, as Linux can")
def test_a_signal_that_another_thread_takes_ends_the_engine(
    models: Path, folder: Path, host: subprocess.Popen[bytes]
) -> None:
    # The system may choose any thread for a signal; one that waits in accept() for the next client is not woken by it.
    program = start(models, "--folder", str(folder), "--host", str(host.pid), cold=True)
    connect(folder).close()
    others = [thread.id for thread in psutil.Process(program.pid).threads() if thread.id != program.pid]
    assert others
    assert ctypes.CDLL(None, use_errno=True).tgkill(program.pid, others[0], signal.SIGTERM) == 0
    assert program.wait(60) == 0
    assert not folder.exists()


def test_an_engine_that_nobody_uses_ends(models: Path, folder: Path, host: subprocess.Popen[bytes]) -> None:
    program = start(models, "--folder", str(folder), "--host", str(host.pid), "--idle", "1")
    assert program.wait(60) == 0
    assert not folder.exists()
    assert host.poll() is None


@pytest.mark.parametrize("options", [[], ["--stdio", "--folder", os.curdir], ["--folder", os.curdir]])
def test_one_way_of_serving_must_be_chosen(models: Path, options: list[str]) -> None:
    program = start(models, *options)
    _, words = program.communicate(timeout=60)
    assert program.returncode == 2
    assert "either --stdio, or --folder with --host" in words
