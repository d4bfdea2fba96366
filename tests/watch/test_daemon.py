"""The daemon as a process: what arrives in every way is done once, and nothing ends it but a signal."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import shutil
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from codiff_batch.batch.journal import journals_in
from codiff_batch.batch.options import BatchOptions
from codiff_batch.errors import OptionsConflict
from codiff_batch.watch.daemon import Daemon, WatchOptions
from codiff_batch.watch.eyes import Eyes
from tests.photos import jpeg, scene, write
from tests.watch.watched import PATIENCE

pytestmark = pytest.mark.xdist_group("waiting")  # in one process: the others have work


@pytest.mark.slow
def test_photos_are_done_once_however_they_arrive(watch, tmp_path: Path) -> None:
    write(tmp_path / "in/before.jpg", jpeg(20))
    daemon = watch()
    daemon.wait_until_watching()
    write(tmp_path / "elsewhere/moved.jpg", jpeg(21)).rename(tmp_path / "in/moved.jpg")
    write(tmp_path / "in/.upload.tmp", jpeg(22)).rename(tmp_path / "in/renamed.jpg")
    write(tmp_path / "tree/deep/er/moved-tree.jpg", jpeg(23))
    (tmp_path / "tree").rename(tmp_path / "in/tree")
    os.link(write(tmp_path / "elsewhere/linked.jpg", jpeg(24)), tmp_path / "in/linked.jpg")
    write(tmp_path / "in/new/sub/written.jpg", jpeg(25))
    write(tmp_path / "in/unfinished.jpg.crdownload", jpeg(26))
    write(tmp_path / "in/.hidden.jpg", jpeg(26))
    write(tmp_path / "in/@eaDir/thumb.jpg", jpeg(26))
    with (tmp_path / "in/slow.jpg").open("wb") as file:
        data = jpeg(27)
        for start in range(0, len(data), len(data) // 4):
            file.write(data[start : start + len(data) // 4])
            file.flush()
            time.sleep(0.4)
    names = {"before.jpg", "moved.jpg", "renamed.jpg", "moved-tree.jpg", "linked.jpg", "written.jpg", "slow.jpg"}
    daemon.wait_for_outcomes(len(names))
    time.sleep(1)
    assert daemon.stop() == 143
    assert daemon.outcomes() == Counter(names)
    assert all(line["outcome"] == "restored" for line in daemon.lines if "source" in line)
    assert sorted(p.name for p in daemon.out.rglob("*.jpg")) == sorted(names)


@pytest.mark.slow
def test_bad_files_are_logged_and_the_daemon_goes_on(watch, tmp_path: Path) -> None:
    daemon = watch("--rescan", 1)
    daemon.wait_until_watching()
    write(tmp_path / "in/torn.jpg", jpeg(20)[:400])
    write(tmp_path / "in/line\nbreak\x1b[31m\udcff.jpg", jpeg(20))
    daemon.wait_for_outcomes(2)
    write(tmp_path / "in/good.jpg", jpeg(20))
    daemon.wait_for_outcomes(3)
    time.sleep(2)  # rescans pass over what failed and has not changed
    assert daemon.outcomes()["torn.jpg"] == 1
    write(tmp_path / "in/torn.jpg", jpeg(20))
    daemon.wait_for(lambda: daemon.outcomes()["torn.jpg"] == 2)
    assert daemon.stop(signal.SIGINT) == 130
    assert sum(line.get("outcome") == "failed" for line in daemon.lines) == 1


@pytest.mark.slow
def test_a_second_daemon_and_a_batch_on_the_same_output_are_kept_out(watch, run, tmp_path: Path, model: Path) -> None:
    first = watch()
    first.wait_until_watching()
    second = watch()
    assert second.program.wait(PATIENCE) == 5
    write(tmp_path / "in/a.jpg", jpeg(20))
    assert run(tmp_path / "in", "-o", tmp_path / "out", "--model", model).code == 5
    first.wait_for_outcomes(1)
    assert first.stop() == 143


@pytest.mark.slow
def test_a_restart_goes_on_where_the_killed_daemon_was(watch, tmp_path: Path) -> None:
    names = {f"{index:02}.jpg" for index in range(20)}
    for index, name in enumerate(sorted(names)):
        write(tmp_path / "in" / name, jpeg(20, image=scene(320, 240, seed=index)))
    killed = watch(cold=True)
    killed.wait_for_outcomes(3)
    assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
    # The journal comes before the log: one photo may be done whose outcome nobody has heard.
    (journal,) = journals_in(tmp_path / "out")
    with contextlib.closing(sqlite3.connect(journal)) as database:
        done = {Path(os.fsdecode(source)).name for (source,) in database.execute("SELECT source FROM attempts")}
    assert set(killed.outcomes()) <= done < names
    write(tmp_path / "out/.codiff-batch-all-dead.tmp", b"half")
    again = watch()
    again.wait_for_outcomes(len(names - done))
    time.sleep(1)
    again.stop()
    assert again.outcomes() == Counter(names - done)
    assert {path.name for path in (tmp_path / "out").glob("*.jpg")} == names
    assert not list((tmp_path / "out").glob("*.tmp"))


@pytest.mark.slow
def test_once_does_what_is_there_and_ends(run, tmp_path: Path, model: Path) -> None:
    write(tmp_path / "in/a.jpg", jpeg(20))
    write(tmp_path / "in/torn.jpg", jpeg(20)[:300])
    arguments = ("watch", tmp_path / "in", "--once", "--settle", 0.2, "--model", model)
    assert run(*arguments).code == 3
    assert [path.name for path in (tmp_path / "in-restored").glob("*.jpg")] == ["a.jpg"]
    (tmp_path / "in/torn.jpg").unlink()
    assert run(*arguments).code == 0


@pytest.mark.slow
def test_polling_needs_no_events(watch, tmp_path: Path) -> None:
    daemon = watch("--polling", "--rescan", 1)
    daemon.wait_until_watching()
    write(tmp_path / "in/a.jpg", jpeg(20))
    daemon.wait_for_outcomes(1)
    assert daemon.stop() == 143


@pytest.mark.slow
def test_systemd_is_told_ready_alive_and_stopping(watch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE)
        daemon = watch(environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        heard = {listener.recv(100) for _ in range(2)}
        assert heard == {b"READY=1", b"WATCHDOG=1"}
        assert listener.recv(100) == b"WATCHDOG=1"
        assert daemon.stop() == 143
        while (message := listener.recv(100)) != b"STOPPING=1":
            assert message == b"WATCHDOG=1"


@pytest.mark.slow
def test_a_flood_is_done_exactly_once_in_bounded_memory(watch, tmp_path: Path) -> None:
    import psutil

    daemon = watch("--rescan", 600, cold=True)
    daemon.wait_until_watching()
    count, restored_every = 1_000, 20
    # Nine of ten are recognised as made by this program, which costs little: they are events.
    known = jpeg(95, image=scene(16, 16), subsampling=0, comment=b"codiff-batch 0.1.0 model=test qf=20")
    photo = jpeg(20, image=scene(16, 16))
    for index in range(count):
        (tmp_path / f"in/{index:05}.jpg").write_bytes(known if index % restored_every else photo)
    process = psutil.Process(daemon.program.pid)
    peak = 0
    until = time.monotonic() + 5 * PATIENCE
    while len(daemon.outcomes()) < count and time.monotonic() < until:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.5)
    time.sleep(1)
    assert daemon.stop() == 143
    done = daemon.outcomes()
    assert len(done) == count
    assert set(done.values()) == {1}
    restored = [line for line in daemon.lines if line.get("outcome") == "restored"]
    assert len(restored) == count // restored_every == len(list((tmp_path / "out").glob("*.jpg")))
    assert peak < 500e6


def in_process(folder: Path, model: Path, stop: threading.Event, **options: float) -> Daemon:
    folder.mkdir(exist_ok=True)
    batch = BatchOptions((folder,), output=folder.with_name("out"), model=str(model))
    return Daemon(batch, WatchOptions(settle=0.2, **options), stop)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs the GNU C library")
@pytest.mark.slow(seconds=15)
def test_nothing_is_kept_of_the_photos_that_are_done(tmp_path: Path, model: Path) -> None:
    photos = [jpeg(20, image=scene(32, 32, seed=seed)) for seed in range(20)]
    kept: list[tuple[int, int, int]] = []

    def write_wave() -> None:
        for index in range(100):
            write(tmp_path / f"in/{len(kept)}-{index:03}.jpg", photos[index % len(photos)])

    write_wave()
    for done, _ in enumerate(in_process(tmp_path / "in", model, threading.Event(), rescan=600).run(), start=1):
        if done % 100 == 0:
            gc.collect()
            kept.append((len(gc.get_objects()), sys.getallocatedblocks(), allocated()))
            if len(kept) == 4:
                break
            write_wave()
    objects, blocks, allocations = (last - first for last, first in zip(kept[-1], kept[0], strict=True))
    assert objects < 200, "less than one of each photo"
    assert blocks < 1500, "fewer than five of each photo"
    assert allocations < 600_000, "less than the pixels of each photo, and the journal's cache, which has its limit"


def allocated() -> int:
    """Bytes that C libraries have from malloc; unlike the process's memory they do not depend on what lies where."""

    class Figures(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Figures
    figures = mallinfo2()
    return figures.hblkhd + figures.uordblks


@pytest.mark.slow
def test_an_observer_that_dies_is_replaced(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    opened: list[Eyes] = []
    original = Eyes.open

    def open_eyes(self: Eyes) -> bool:
        opened.append(self)
        return original(self)

    monkeypatch.setattr(Eyes, "open", open_eyes)
    daemon = in_process(tmp_path / "in", model, stop)

    def kill_then_write() -> None:
        while not opened or opened[0]._observer is None:
            time.sleep(0.05)
        for emitter in opened[0]._observer.emitters:
            emitter.stop()
            emitter.join()
        write(tmp_path / "in/after.jpg", jpeg(20))

    killer = threading.Thread(target=kill_then_write)
    killer.start()
    outcome = next(daemon.run())
    killer.join()
    assert outcome.source.name == "after.jpg"
    assert len(opened) >= 2


@pytest.mark.slow
def test_a_handler_that_raises_loses_no_photo(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import queue

    class Broken(queue.Queue):  # type: ignore[type-arg]
        def put_nowait(self, item: object) -> None:
            raise RuntimeError("injected")

    monkeypatch.setattr("codiff_batch.watch.eyes.queue.Queue", Broken)
    stop = threading.Event()
    daemon = in_process(tmp_path / "in", model, stop)
    threading.Timer(1.0, lambda: write(tmp_path / "in/a.jpg", jpeg(20))).start()
    assert next(daemon.run()).source.name == "a.jpg"  # events are lost, so the folder is scanned


@pytest.mark.slow
def test_a_folder_that_is_gone_for_a_while_is_watched_again(tmp_path: Path, model: Path) -> None:
    stop = threading.Event()
    daemon = in_process(tmp_path / "in", model, stop)

    def unplug_and_plug() -> None:
        time.sleep(1.0)
        shutil.rmtree(tmp_path / "in")
        time.sleep(1.5)
        (tmp_path / "in").mkdir()
        time.sleep(1.5)
        write(tmp_path / "in/back.jpg", jpeg(20))

    threading.Thread(target=unplug_and_plug).start()
    assert next(daemon.run()).source.name == "back.jpg"


@pytest.mark.parametrize("output", [".", "in", "in/.."])
def test_an_output_that_holds_the_watched_folder_is_refused(tmp_path: Path, model: Path, output: str) -> None:
    (tmp_path / "in").mkdir()
    batch = BatchOptions((tmp_path / "in",), output=tmp_path / output, model=str(model))
    with pytest.raises(OptionsConflict, match="holds the watched folder itself"):
        Daemon(batch, WatchOptions(), threading.Event())


@pytest.mark.slow
def test_an_output_inside_the_watched_folder_is_never_taken_for_a_source(tmp_path: Path, model: Path) -> None:
    stop = threading.Event()
    write(tmp_path / "in/a.jpg", jpeg(20))
    batch = BatchOptions((tmp_path / "in",), output=tmp_path / "in/out", model=str(model))
    outcomes = []
    threading.Timer(2.5, stop.set).start()
    for outcome in Daemon(batch, WatchOptions(settle=0.2, rescan=1), stop).run():
        outcomes.append(outcome.source)
    assert outcomes == [tmp_path / "in/a.jpg"]
