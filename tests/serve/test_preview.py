"""Previews: a part of a picture as it will be, at once, whatever else the engine is doing."""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codiff_batch.jpeg import JpegPhoto, cut, project_to_cells
from codiff_batch.serve.turns import Turns
from tests.serve.test_protocol import (  # noqa: F401 (fixtures)
    PHOTO,
    SIDE,
    Lines,
    connect,
    engine,
    folder,
    host,
    models,
    photo,
    raw,
    start,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("engine")]  # one process starts one for most of them
REGION = [201, 99, 57, 43]
HERE = (slice(99, 142), slice(201, 258))


@pytest.fixture
def request_(tmp_path: Path, photo: JpegPhoto) -> dict[str, Any]:  # noqa: F811
    """A request about the photo, whose answer lies in ``out``."""
    picture = raw(tmp_path / "in", photo.pixels())
    return {"model": "fast", "picture": picture, "into": str(tmp_path / "out"), "jpeg": str(photo.path)}


def preview(engine: Lines, request: dict[str, Any], **settings: Any) -> np.ndarray:  # noqa: F811
    told = engine.ask(do="preview", region=REGION, **{**request, **settings})
    assert told["event"] == "done", told
    return np.fromfile(request["into"], np.uint8).reshape(43, 57, 3).astype(int)


def whole(engine: Lines, request: dict[str, Any], **settings: Any) -> np.ndarray:  # noqa: F811
    assert engine.ask(do="restore", **{**request, **settings})["event"] == "done"
    return np.fromfile(request["into"], np.uint8).reshape(SIDE, SIDE, 3)[HERE].astype(int)


@pytest.mark.parametrize(
    "settings",
    [{}, {"strength": 0.5}, {"constrain": False}, {"qf": 30}, {"model": "compact", "texture": 0.3}],
    ids=["plain", "half", "free", "by hand", "texture"],
)
def test_a_preview_is_what_the_whole_will_be(
    engine: Lines,  # noqa: F811
    request_: dict[str, Any],
    photo: JpegPhoto,  # noqa: F811
    settings: dict[str, Any],
) -> None:
    shown, expected = preview(engine, request_, **settings), whole(engine, request_, **settings)
    changes = np.abs(expected - photo.pixels()[HERE]).mean()
    assert np.abs(shown - expected).mean() < changes / 8


def test_each_setting_shows(engine: Lines, request_: dict[str, Any]) -> None:  # noqa: F811
    different = [{}, {"strength": 0.5}, {"constrain": False}, {"qf": 60}, {"model": "compact"}]
    shown = {preview(engine, request_, **settings).tobytes() for settings in different}
    assert len(shown) == len(different)


def test_each_precision_is_computed_in(engine: Lines, request_: dict[str, Any]) -> None:  # noqa: F811
    """The same picture is asked about again: neither an earlier model nor an earlier preview answers for another."""
    for ask in (preview, whole):
        single, half = (ask(engine, request_, precision=floats) for floats in ("fp32", "bf16"))
        assert 0 < np.abs(single - half).mean() < 1


def test_at_strength_zero_it_is_the_picture_itself(
    engine: Lines,  # noqa: F811
    request_: dict[str, Any],
    photo: JpegPhoto,  # noqa: F811
) -> None:
    assert np.array_equal(preview(engine, request_, strength=0), photo.pixels()[HERE])


def test_the_network_works_once_for_all_strengths(engine: Lines, request_: dict[str, Any]) -> None:  # noqa: F811
    preview(engine, request_, strength=0.9)
    engine.progress.clear()
    preview(engine, request_, strength=0.3)
    assert engine.progress == []
    preview(engine, request_, strength=0.3, qf=50)
    assert engine.progress


def test_a_picture_that_was_written_again_is_read_again(
    engine: Lines,  # noqa: F811
    request_: dict[str, Any],
    tmp_path: Path,
    photo: JpegPhoto,  # noqa: F811
) -> None:
    before = preview(engine, request_)
    raw(tmp_path / "in", 255 - photo.pixels())
    assert not np.array_equal(preview(engine, request_), before)


@pytest.mark.parametrize(("options", "words"), [({"region": [0, 0, 9999, 9]}, "region"), ({"strength": 7}, "strength")])
def test_a_wrong_preview_is_refused_in_a_sentence(
    engine: Lines,  # noqa: F811
    request_: dict[str, Any],
    options: dict[str, Any],
    words: str,
) -> None:
    told = engine.ask(do="preview", **{**request_, **options})
    assert told["event"] == "error"
    assert words in told["message"]


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0", "gray"])
@pytest.mark.parametrize(
    "window", [(slice(32, 96), slice(16, 80)), (slice(64, 121), slice(96, 149))], ids=["in", "edge"]
)
def test_a_part_has_the_cells_of_the_whole(tmp_path: Path, sampling: str, window: tuple[slice, slice]) -> None:
    image = Image.open(PHOTO).crop((0, 0, 149, 121))
    if sampling == "gray":
        image.convert("L").save(tmp_path / "photo.jpg", quality=20)
    else:
        image.save(tmp_path / "photo.jpg", quality=20, subsampling=sampling)
    photo = JpegPhoto.open(tmp_path / "photo.jpg")  # noqa: F811
    rng = np.random.default_rng(0)
    levels = np.clip(photo.pixels() + rng.normal(0, 4, photo.pixels().shape), 0, 255).astype(np.float32)
    part = levels[window].copy()
    free = part.copy()
    expected = project_to_cells(levels, photo)[window].astype(int)
    shown = cut(photo, photo.coefficients(), window)
    difference = np.abs(project_to_cells(part, shown).astype(int) - expected)
    # How often a block is corrected depends on its neighbours, within the margin of its cells.
    assert difference.mean() < np.abs(free - expected).mean() / 4
    assert difference.max() <= 3


@pytest.mark.slow(seconds=8)
def test_a_preview_does_not_wait_for_another_clients_work(
    models: Path,  # noqa: F811
    folder: Path,  # noqa: F811
    host: subprocess.Popen[bytes],  # noqa: F811
    photo: JpegPhoto,  # noqa: F811
) -> None:
    start(models, "--folder", str(folder), "--host", str(host.pid))
    slow, quick = connect(folder), connect(folder)
    large = raw(folder / "1-in.raw", np.tile(photo.pixels(), (2, 3, 1)))  # six tiles
    slow.send_bytes(
        json.dumps({"do": "restore", "model": "fast", "picture": large, "into": str(folder / "1-out.raw")}).encode()
    )
    assert json.loads(slow.recv_bytes())["event"] == "progress"
    small = {"picture": raw(folder / "2-in.raw", photo.pixels()), "into": str(folder / "2-out.raw")}
    quick.send_bytes(json.dumps({"do": "preview", "model": "tiny", "region": REGION, **small}).encode())
    events = {slow: [], quick: []}
    while "done" not in events[quick]:
        events[quick].append(json.loads(quick.recv_bytes())["event"])
    while slow.poll():
        events[slow].append(json.loads(slow.recv_bytes())["event"])
    assert "done" not in events[slow]
    while "done" not in events[slow]:
        events[slow].append(json.loads(slow.recv_bytes())["event"])


def test_a_folder_whose_path_is_too_long_for_a_socket_is_served(
    models: Path,  # noqa: F811
    tmp_path: Path,
    host: subprocess.Popen[bytes],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = tmp_path / "/".join(["a-long-name-of-a-folder"] * 6)
    long.mkdir(parents=True, mode=0o700)
    (long / "key").write_bytes(secrets.token_bytes(32))
    start(models, "--folder", str(long), "--host", str(host.pid))
    monkeypatch.chdir(long)
    (tmp_path / "short").symlink_to(long)
    assert connect(tmp_path / "short")


def test_short_turns_go_first_and_long_ones_go_on() -> None:
    turns, order = Turns(), []
    inside, asked = threading.Event(), threading.Event()

    def work() -> None:
        with turns.mine():
            order.append("long begins")
            inside.set()
            asked.wait(5)
            while not turns._short:
                time.sleep(0.01)
            turns.give_way()
            order.append("long ends")

    def question() -> None:
        asked.set()
        with turns.mine(short=True):
            order.append("short")

    threads = [threading.Thread(target=work), threading.Thread(target=question)]
    threads[0].start()
    inside.wait(5)
    threads[1].start()
    for thread in threads:
        thread.join(10)
    assert order == ["long begins", "short", "long ends"]
