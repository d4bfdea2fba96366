"""The loop of the daemon in this process, where the test says what happens between two ticks."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codiff_batch.batch.options import BatchOptions
from codiff_batch.errors import FolderLocked, FolderUnavailable, ModelError, OptionsConflict
from codiff_batch.settings import Judging
from codiff_batch.watch import daemon as module
from codiff_batch.watch.daemon import Daemon, WatchOptions
from codiff_batch.watch.home import Home
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model


class Ticks(threading.Event):
    """Takes a step at each tick rather than wait, then stops the daemon."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        super().__init__()
        self._steps = list(steps)

    def wait(self, timeout: float | None = None) -> bool:
        if self._steps:
            self._steps.pop(0)()
        else:
            self.set()
        return self.is_set()


def nothing() -> None:
    """A tick at which nothing happens."""


class Looped:
    """A daemon that looks for photos at each tick if not told otherwise, and what it said of them."""

    def __init__(
        self,
        folder: Path,
        model: Path,
        *steps: Callable[[], object],
        once: bool = False,
        settle: float = 0,
        rescan: float = 0,
        **options: Any,
    ):
        (folder / "in").mkdir(exist_ok=True)
        options = {"output": folder / "out", **options}
        self.batch = BatchOptions((folder / "in",), model=str(model), **options)
        watch = WatchOptions(settle=settle, rescan=rescan, polling=True, once=once)
        self.daemon = Daemon(self.batch, watch, Ticks(*steps))
        self.said: list[str] = []

    def run(self) -> list[str]:
        """Run it to its end; returns the outcomes."""
        for outcome in self.daemon.run():
            self.said.append(f"{outcome.source.name} {outcome.outcome}")
        return self.said

    @property
    def home(self) -> Home:
        (home,) = self.daemon._homes.values()
        return home


@pytest.mark.slow
@pytest.mark.floors
def test_in_place_each_photo_is_replaced_once_and_leftovers_go(tmp_path: Path, model: Path) -> None:
    photo = write(tmp_path / "in/sub/a.jpg", jpeg(20))
    leftover = write(tmp_path / "in/sub/.codiff-batch-all-dead.tmp", b"half")
    options = {"output": None, "in_place": True, "backup": tmp_path / "kept"}
    assert Looped(tmp_path, model, *3 * [nothing], **options).run() == ["a.jpg restored"]
    assert photo.read_bytes() != jpeg(20)
    assert [path.read_bytes() for path in (tmp_path / "kept").rglob("*.jpg")] == [jpeg(20)]
    assert not leftover.exists()
    assert not (tmp_path / "in-restored").exists()
    assert Looped(tmp_path, model, nothing, **options).run() == []


@pytest.mark.slow
@pytest.mark.floors
def test_what_is_lost_is_made_again_at_the_next_start_and_what_was_good_is_left(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "in/a.jpg", jpeg(20))
    for said in (["a.jpg skipped"], []):
        assert Looped(tmp_path, model, nothing, nothing, judging=Judging(min_qf=0)).run() == said
    for said in (["a.jpg restored"], []):
        assert Looped(tmp_path, model, nothing, nothing).run() == said
    (tmp_path / "out/a.jpg").unlink()
    assert Looped(tmp_path, model, nothing, nothing).run() == ["a.jpg restored"]
    assert Looped(tmp_path, model, *3 * [nothing], overwrite=True).run() == ["a.jpg restored"]


def test_one_that_is_to_end_ends_when_all_is_done(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "in/a.jpg", jpeg(20))
    looped = Looped(tmp_path, model, *5 * [nothing], once=True)
    assert looped.run() == ["a.jpg restored"]
    assert not looped.daemon._stop.is_set()


def test_one_that_is_to_end_waits_for_what_has_not_settled(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(module, "time", clock)
    photo = write(tmp_path / "in/a.jpg", jpeg(20)[:400])

    def grow() -> None:
        clock.now += 3
        photo.write_bytes(jpeg(20))

    def pass_by() -> None:
        clock.now += 3

    assert Looped(tmp_path, model, grow, *4 * [pass_by], once=True, settle=5).run() == ["a.jpg restored"]


def test_systemd_hears_of_the_daemon_during_long_scans_and_long_work(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in/a.jpg", jpeg(20))
    looped, during = Looped(tmp_path, model, nothing), set[str]()
    monkeypatch.setattr(looped.daemon._service, "ping", lambda: during.add(sys._getframe(1).f_code.co_name))
    assert looped.run() == ["a.jpg restored"]
    assert during == {"_loop", "_scan", "_note"}


def test_hints_are_followed_unless_they_lead_to_what_is_no_photo(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("in/.hidden.jpg", "in/notes.txt", "elsewhere/a.jpg", "in/out/a.jpg")
    paths = [write(tmp_path / name, jpeg(20)) for name in names]
    monkeypatch.setattr("codiff_batch.watch.lookout.Lookout.hints", lambda self: [paths.pop()] if paths else [])
    steps = [*4 * [nothing], lambda: paths.append(write(tmp_path / "in/late.jpg", jpeg(20))), nothing]
    assert Looped(tmp_path, model, *steps, output=tmp_path / "in/out", rescan=600).run() == ["late.jpg restored"]
    assert not paths


def test_a_scan_is_followed_by_none_until_the_next_is_due(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("codiff_batch.watch.lookout.time", clock)
    scans, scan = list[float](), module.scan
    monkeypatch.setattr(module, "scan", lambda *given, **named: (scans.append(clock.now), scan(*given, **named))[1])

    def pass_by() -> None:
        clock.now += 3

    assert Looped(tmp_path, model, *9 * [pass_by], rescan=9).run() == []
    assert scans == [1000, 1009, 1018, 1027]


@pytest.mark.slow
@pytest.mark.floors
def test_each_folder_has_its_outputs_beside_it_if_nothing_is_said(tmp_path: Path, model: Path) -> None:
    folders = tuple(write(tmp_path / name / "a.jpg", jpeg(20)).parent for name in ("anna", "ben"))
    daemon = Daemon(BatchOptions(folders, model=str(model)), WatchOptions(settle=0, once=True), Ticks(*3 * [nothing]))
    assert [outcome.outcome for outcome in daemon.run()] == 2 * ["restored"]
    assert sorted(path.parent.name for path in tmp_path.glob("*-restored/a.jpg")) == ["anna-restored", "ben-restored"]


def test_a_damaged_model_is_found_before_the_first_photo(tmp_path: Path) -> None:
    damaged = make_tiny_model(tmp_path / "damaged")
    write(damaged / "weights.safetensors", b"x")
    with pytest.raises(ModelError):
        Looped(tmp_path, damaged, nothing).run()
    assert Looped(tmp_path, damaged, nothing, once=True).run() == []  # there is nothing for it to do


@pytest.mark.slow
@pytest.mark.floors
def test_what_failed_has_another_chance_at_the_next_start_or_when_it_changes(tmp_path: Path, model: Path) -> None:
    photo = write(tmp_path / "in/torn.jpg", jpeg(20)[:400])
    assert Looped(tmp_path, model, *4 * [nothing]).run() == ["torn.jpg failed"]
    mend = [nothing, nothing, lambda: photo.write_bytes(jpeg(20)), nothing, nothing]
    assert Looped(tmp_path, model, *mend).run() == ["torn.jpg failed", "torn.jpg restored"]


@pytest.mark.parametrize(("passing", "attempts"), [(True, 4), (False, 1)])
def test_what_failed_for_a_while_is_tried_again(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, passing: bool, attempts: int
) -> None:
    monkeypatch.setattr("codiff_batch.watch.retries.FIRST_PAUSE", 0)
    monkeypatch.setattr(module, "passes", lambda reason: passing)
    write(tmp_path / "in/torn.jpg", jpeg(20)[:400])
    write(tmp_path / "in/whole.jpg", jpeg(20))
    looped = Looped(tmp_path, model, *3 * [nothing])
    assert looped.run().count("whole.jpg restored") == 1
    assert looped.said.count("torn.jpg failed") == attempts
    assert len(looped.daemon._retries) == passing


def test_a_disk_that_is_away_is_waited_for(tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "in/a.jpg", jpeg(20))
    mark: list[Any] = []

    def leave() -> None:
        mark.append(looped.home._mark)
        looped.home._device += 1
        looped.home._mark = None
        write(tmp_path / "in/b.jpg", jpeg(20, image=scene(seed=1)))

    def come_back() -> None:
        assert looped.said == ["a.jpg restored"]
        looped.home._device -= 1

    looped = Looped(tmp_path, model, nothing, leave, nothing, nothing, come_back, nothing, nothing)
    assert looped.run() == ["a.jpg restored", "b.jpg restored"]
    assert caplog.messages.count(f"{tmp_path / 'out'} is not on the disk it was on; waiting for it") == 1


def test_a_disk_that_is_away_ends_a_daemon_that_is_to_end(tmp_path: Path, model: Path) -> None:
    def leave() -> None:
        looped.home._device += 1
        looped.home._mark = None

    write(tmp_path / "in/a.jpg", jpeg(20))
    looped = Looped(tmp_path, model, leave, once=True)
    with pytest.raises(FolderUnavailable, match="is not on the disk it was on"):
        looped.run()


def test_a_disk_that_is_back_has_its_journal_opened_again(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "in/a.jpg", jpeg(20))
    write(tmp_path / "in/torn.jpg", jpeg(20)[:400])

    def come_back() -> None:
        looped.home._device += 1

    looped = Looped(tmp_path, model, nothing, come_back, nothing, nothing, nothing)
    # All count as new: what is done is known by its journal, what failed has another chance.
    assert sorted(looped.run()) == ["a.jpg restored", "torn.jpg failed", "torn.jpg failed"]
    assert caplog.messages.count(f"the disk of {tmp_path / 'out'} is back") == 1
    assert "moved away" not in caplog.text


@pytest.mark.slow
@pytest.mark.floors
def test_an_output_folder_that_is_gone_is_made_again_once_there_is_a_place(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = write(tmp_path / "in/a.jpg", jpeg(20)).parents[1] / "out"

    def take() -> None:
        out.rename(tmp_path / "taken")
        out.write_bytes(b"in the way")

    looped = Looped(tmp_path, model, nothing, take, nothing, nothing, out.unlink, nothing, nothing, rescan=600)
    assert looped.run() == ["a.jpg restored", "a.jpg restored"]
    assert (out / "a.jpg").read_bytes() == (tmp_path / "taken/a.jpg").read_bytes()
    assert sum(message.endswith("; waiting") for message in caplog.messages) == 1
    assert caplog.messages.count(f"{out} was moved away or deleted; starting a new one, with all photos") == 1


@pytest.mark.parametrize("once", [False, True])
def test_a_new_output_folder_that_another_run_has_ends_the_daemon(tmp_path: Path, model: Path, once: bool) -> None:
    write(tmp_path / "in/a.jpg", jpeg(20))
    with contextlib.ExitStack() as opened:

        def take() -> None:
            (tmp_path / "out").rename(tmp_path / "taken")
            other = Looped(tmp_path, model).daemon
            other._opened = opened
            other._open_journals()

        with pytest.raises(FolderLocked):
            Looped(tmp_path, model, take, once=once).run()


def test_what_cannot_be_looked_at_is_said_once(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    scan = module.scan
    unreadable = [module.Found(tmp_path / f"in/{name}", tmp_path / "in", error="Input/output error") for name in "ab"]
    monkeypatch.setattr(module, "scan", lambda *arguments, **named: [*scan(*arguments, **named), *unreadable])
    steps = [nothing, nothing, unreadable.pop, nothing, lambda: unreadable.append(other), nothing]
    other = unreadable[1]
    # One that was all right in between is said again.
    assert Looped(tmp_path, model, *steps).run() == ["a failed", "b failed", "b failed"]


@pytest.mark.slow
@pytest.mark.floors
def test_nothing_about_one_name_ends_the_daemon(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"in/{name}.jpg", jpeg(20))
    is_known = module.is_known

    def broken(task: Any, *rest: Any, **named: Any) -> bool:
        if task.source.name == "a.jpg":
            raise RecursionError("a bug")
        return is_known(task, *rest, **named)

    monkeypatch.setattr(module, "is_known", broken)
    assert sorted(Looped(tmp_path, model, *3 * [nothing]).run()) == ["a.jpg restored", "b.jpg restored"]
    assert f"cannot look up {tmp_path / 'in/a.jpg'} in the journal: a bug" in caplog.messages


def test_a_journal_that_cannot_be_read_any_more_ends_the_daemon(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*arguments: Any, **named: Any) -> bool:
        raise FolderUnavailable("the journal is gone")

    monkeypatch.setattr(module, "is_known", gone)
    write(tmp_path / "in/a.jpg", jpeg(20))
    with pytest.raises(FolderUnavailable, match="the journal is gone"):
        Looped(tmp_path, model).run()


def test_one_daemon_works_on_one_device(tmp_path: Path, model: Path) -> None:
    assert Looped(tmp_path, model, devices=("cpu",))
    with pytest.raises(OptionsConflict, match="one device"):
        Looped(tmp_path, model, devices=("cpu", "cuda"))


def test_folders_may_lie_beside_one_another_and_their_outputs_in_them(tmp_path: Path) -> None:
    for name in ("in", "in2", "in/sub"):
        (tmp_path / name).mkdir()
    stop = threading.Event()
    assert Daemon(BatchOptions((tmp_path / "in", tmp_path / "in2"), output=tmp_path / "in/out"), WatchOptions(), stop)
    for folders in ((tmp_path / "in", tmp_path / "in/sub"), (tmp_path / "in/sub", tmp_path / "in")):
        with pytest.raises(OptionsConflict, match=r"in/sub lies in .*, which is watched"):
            Daemon(BatchOptions(folders, output=tmp_path / "out"), WatchOptions(), stop)
