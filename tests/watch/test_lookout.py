"""Events as hints, when a scan is due without them, and what became of an output folder."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import queue
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from watchdog.events import FileClosedEvent, FileMovedEvent
from watchdog.observers.inotify_c import InotifyFD

from codiff_batch.watch.eyes import Eyes, _Handler
from codiff_batch.watch.home import Home
from codiff_batch.watch.lookout import POLL_SECONDS, Lookout
from tests.photos import write
from tests.watch.watched import PATIENCE


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that the test turns."""
    turned = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("codiff_batch.watch.lookout.time", SimpleNamespace(monotonic=lambda: turned.now))
    return turned


def inotify_descriptors() -> int:
    """How many of this process are open; other files come and go with earlier tests' garbage."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # gone, or with a name too long to read
            found += "inotify" in str(entry.readlink())
    return found


def seconds_to_scan(lookout: Lookout, clock: SimpleNamespace) -> float:
    """For how long nothing is due."""
    lookout.scanned()
    began = clock.now
    while not lookout.needs_scan():
        clock.now += 1
        assert clock.now < began + 1000
    lookout.scanned()
    return clock.now - began


@pytest.mark.parametrize(("polling", "rescan", "every"), [(False, 300, 300), (True, 300, POLL_SECONDS), (True, 4, 4)])
def test_folders_are_scanned_at_intervals_and_more_often_without_events(
    tmp_path: Path, clock: SimpleNamespace, polling: bool, rescan: float, every: float
) -> None:
    with Lookout([tmp_path], rescan, polling=polling) as lookout:
        assert seconds_to_scan(lookout, clock) == every
        assert seconds_to_scan(lookout, clock) == every


def test_a_share_among_the_folders_has_them_scanned_often(
    tmp_path: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("disk", "share"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("codiff_batch.watch.lookout.raises_no_events", lambda folder: folder.name == "share")
    caplog.set_level(logging.INFO)
    with Lookout([tmp_path / "disk", tmp_path / "share"], 300, polling=False) as lookout:
        assert seconds_to_scan(lookout, clock) == POLL_SECONDS
        write(tmp_path / "disk/a.jpg", b"x")
        assert lookout._eyes[tmp_path / "disk"]._hints.get(timeout=PATIENCE) == tmp_path / "disk/a.jpg"
    for name in ("disk", "share"):
        assert caplog.messages.count(f"watching {tmp_path / name}, scanned every 10 s") == 1


def test_hints_are_each_file_once_under_the_name_that_the_folder_was_given(tmp_path: Path) -> None:
    hints, lost = queue.Queue[Path](3), threading.Event()
    handler = _Handler(Path("/real"), Path("named"), hints, lost)
    eyes = Eyes(tmp_path)
    eyes._hints = hints
    for event in (*2 * [FileClosedEvent("/real/sub/a.jpg")], FileMovedEvent("/real/b.tmp", "/real/b.jpg")):
        handler.on_any_event(event)
    assert not lost.is_set()
    handler.on_any_event(FileClosedEvent("/real/one too many.jpg"))
    assert lost.is_set()
    assert eyes.hints() == {Path("named/sub/a.jpg"), Path("named/b.jpg")}
    assert eyes.hints() == set()
    lost.clear()
    handler.on_any_event(FileClosedEvent("/elsewhere/c.jpg"))
    assert lost.is_set()


def test_lost_events_are_made_up_for_by_one_scan(
    tmp_path: Path, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    watchdog = logging.getLogger("watchdog.observers")
    with Lookout([tmp_path], 300, polling=False) as lookout:
        watchdog.getChild("inotify").warning("something else")
        assert not lookout.needs_scan()
        watchdog.getChild("inotify_c").warning("Inotify queue overflowed; filesystem events were lost")
        assert lookout.needs_scan()
        assert not lookout.needs_scan()
    assert not watchdog.handlers
    assert caplog.messages.count(f"events were lost; scanning {tmp_path}") == 1


@pytest.mark.parametrize("refused", [b"", b"/sub"], ids=["everything", "a subfolder"])
def test_where_watches_run_out_folders_are_scanned_until_there_are_some_again(
    tmp_path: Path,
    clock: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refused: bytes,
) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        (folder / "sub").mkdir(parents=True)
    add, number = InotifyFD.add_callback, errno.ENOSPC
    tried: list[bytes] = []

    def run_out(self: InotifyFD, path: bytes, *rest: Any) -> Any:
        tried.append(path)
        if path.endswith(refused) and path.startswith(bytes(folders[1])):
            raise OSError(number, os.strerror(number))
        return add(self, path, *rest)

    caplog.set_level(logging.INFO)
    descriptors = inotify_descriptors()
    monkeypatch.setattr(InotifyFD, "add_callback", run_out)
    with Lookout(folders, 60, polling=False) as lookout:
        assert all(eyes._observer is None for eyes in lookout._eyes.values())
        for _ in range(10):
            assert seconds_to_scan(lookout, clock) == POLL_SECONDS
        assert all(eyes._observer is None for eyes in lookout._eyes.values())
        assert tried.count(bytes(folders[1])) == 2  # at the beginning, and after a minute
        monkeypatch.undo()
        monkeypatch.setattr("codiff_batch.watch.lookout.time", SimpleNamespace(monotonic=lambda: clock.now))
        clock.now += 60
        assert lookout.needs_scan()
        assert all(eyes.see() for eyes in lookout._eyes.values())
        assert seconds_to_scan(lookout, clock) == 60
    assert inotify_descriptors() == descriptors
    words = "cannot watch all folders by events (No space left on device); scanning every 10 s instead"
    assert caplog.messages.count(words) == 1
    assert caplog.messages.count("watching by events again") == 1
    assert f"watching {folders[0]}, scanned every 10 s" in caplog.messages


def test_a_subfolder_that_may_not_be_entered_costs_the_others_no_events(
    tmp_path: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    add = InotifyFD.add_callback

    def refuse(self: InotifyFD, path: bytes, *rest: Any) -> Any:
        if path.endswith(b"/sub"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return add(self, path, *rest)

    monkeypatch.setattr(InotifyFD, "add_callback", refuse)
    with Lookout([tmp_path], 300, polling=False) as lookout:
        assert seconds_to_scan(lookout, clock) == 300


def test_another_folder_at_the_same_place_is_watched_instead(
    tmp_path: Path, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with Lookout([folder], 300, polling=False) as lookout:
        eyes = lookout._eyes[folder]
        before = eyes._observer
        assert eyes.see()
        assert eyes.open()
        assert not before.is_alive()
        folder.rename(tmp_path / "taken")
        for _ in range(3):
            assert not lookout.needs_scan()  # it may come back
        assert not eyes.open()
        assert not eyes.blind
        folder.touch()
        assert not lookout.needs_scan()
        folder.unlink()
        folder.mkdir()
        assert lookout.needs_scan()
        assert eyes.see()
        assert not lookout.needs_scan()
        emitters = list(eyes._observer.emitters)
        eyes._observer._watches_thread.stop()
        eyes._observer._watches_thread.join()
        assert not eyes.see()
    assert eyes._observer is None
    assert not any(emitter.is_alive() for emitter in emitters)
    assert caplog.messages.count(f"the observer of {folder} had stopped; restarted it") == 1


def test_a_home_tells_a_folder_that_is_gone_from_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    journal = write(tmp_path / "out/.codiff-batch/journal", b"")
    home = Home(journal)
    assert home.state() == "there"
    with journal.open():  # as the daemon has it
        shutil.rmtree(tmp_path / "out")
        assert home.state() == "gone"
        write(journal, b"")
        assert home.state() == "gone"  # another one
    home._device += 1  # as it is where the mount point shows through
    assert home.state() == "elsewhere"


def test_a_disk_that_is_another_device_now_is_known_by_its_mark(tmp_path: Path) -> None:
    journal = write(tmp_path / "out/.codiff-batch/journal", b"")

    def mark(name: str) -> None:
        write(journal.with_name("mark.json"), json.dumps({"id": name, "holds": "outputs"}).encode())

    mark("ours")
    home = Home(journal)
    home._device += 1
    assert home.state() == "back"
    mark("another's")
    assert home.state() == "elsewhere"
    mark("ours")
    journal.unlink()
    assert home.state() == "elsewhere"
