"""What is under way is bounded in bytes, pixels and time, whatever the folder holds."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codiff_batch.batch import pipeline, process, recall
from codiff_batch.batch.admission import Admission, Patience, Workers, usual_jobs
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.pipeline import run_pipeline
from codiff_batch.batch.plan import plan
from codiff_batch.engine import Request, Restorer
from codiff_batch.errors import TookTooLong
from codiff_batch.files.reading import Contents
from codiff_batch.jpeg import JpegPhoto
from tests import warm
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_admission_waits_until_there_is_room() -> None:
    admission, entered = Admission(10), threading.Event()
    admission.enter(6)

    def second() -> None:
        admission.enter(5)
        entered.set()

    threading.Thread(target=second, daemon=True).start()
    assert not entered.wait(0.2)
    admission.leave(6)
    assert entered.wait(5)


def test_a_limit_that_is_raised_lets_in_who_waits_and_is_never_lowered() -> None:
    admission, entered = Admission(10), threading.Event()
    admission.enter(10)
    threading.Thread(target=lambda: (admission.enter(10), entered.set()), daemon=True).start()
    admission.raise_to(5)
    assert not entered.wait(0.1)
    admission.raise_to(20)
    assert entered.wait(5)


@pytest.mark.parametrize(("cores", "jobs"), [(1, 2), (4, 2), (16, 8)])
def test_half_of_the_cores_read_and_write(monkeypatch: pytest.MonkeyPatch, cores: int, jobs: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(999 if process else cores)), raising=False)
    assert usual_jobs() == jobs
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert usual_jobs() == jobs
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert usual_jobs() == 2


def test_what_just_fits_need_not_wait_and_nobody_waits_once_the_run_ends() -> None:
    admission, entered = Admission(10), threading.Event()
    admission.enter(5)
    admission.enter(5)
    threading.Thread(target=lambda: (admission.enter(1), entered.set()), daemon=True).start()
    assert not entered.wait(0.1)
    admission.open_up()
    assert entered.wait(5)


def test_what_is_larger_than_the_limit_enters_alone() -> None:
    admission = Admission(10)
    admission.enter(100)
    admission.leave(100)
    admission.enter(1)


@pytest.mark.slow
def test_files_wait_for_each_others_bytes(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(6):
        write(tmp_path / f"p/{index}.jpg", jpeg(20, image=scene(seed=index)).ljust(100_000, b"\0"))
    monkeypatch.setattr(pipeline, "BYTES_UNDER_WAY", 150_000)
    open_now, most = [0], [0]
    original, drop = process.read_whole, pipeline._Pipeline._settle

    def opened(path: Path, **limits: int) -> Contents:
        open_now[0] += 1
        most[0] = max(most[0], open_now[0])
        return original(path, **limits)

    def settled(self: object, work: object) -> None:
        open_now[0] -= 1
        drop(self, work)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "read_whole", opened)
    monkeypatch.setattr(pipeline._Pipeline, "_settle", settled)
    options = BatchOptions((tmp_path / "p",), model=str(model), jobs=4, max_bytes=100_000)
    assert [o.outcome for o in run_pipeline(options, plan(options))] == ["restored"] * 6
    assert most[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize(("room", "together"), [(0, False), (10**9, True)])
def test_photos_wait_for_each_others_pixels_unless_the_device_has_room(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, room: int, together: bool
) -> None:
    for index in range(8):
        write(tmp_path / f"p/{index}.jpg", jpeg(20, image=scene(seed=index)))
    monkeypatch.setattr(pipeline, "PIXELS_UNDER_WAY", 1)
    monkeypatch.setattr(Restorer, "pixels_under_way", room)
    inside, most = [0], [0]
    decode, settle = process.PhotoSteps.decode, pipeline._Pipeline._settle

    def decoded(self: process.PhotoSteps, opened: process.Opened) -> process.Sight:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        return decode(self, opened)

    def settled(self: pipeline._Pipeline, work: process.Work) -> None:
        inside[0] -= 1
        settle(self, work)

    monkeypatch.setattr(process.PhotoSteps, "decode", decoded)
    monkeypatch.setattr(pipeline._Pipeline, "_settle", settled)
    options = BatchOptions((tmp_path / "p",), model=str(model), jobs=4)
    assert [o.outcome for o in run_pipeline(options, plan(options))] == ["restored"] * 8
    assert (most[0] > 1) == together


@pytest.mark.slow(seconds=25)
def test_a_folder_of_bombs_is_done_in_bounded_memory(tmp_path: Path, model: Path) -> None:
    for index in range(24):
        photo = write(tmp_path / f"p/trailer{index:02}.jpg", jpeg(20, image=scene(64, 64, seed=index)))
        with photo.open("ab") as file:
            file.truncate(30_000_000)
    with write(tmp_path / "p/sparse.jpg", jpeg(20)).open("ab") as file:
        file.truncate(4_000_000_000)
    huge = jpeg(20, image=Image.fromarray(np.zeros((64, 64), np.uint8)))
    at = huge.index(b"\xff\xc0") + 5
    write(tmp_path / "p/pixels.jpg", huge[:at] + b"\xff\x00\xff\x00" + huge[at + 4 :])
    script = (
        "import resource, sys\n"
        "from codiff_batch.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: code = end.code\n"
        "print(int(code), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak(folder: Path) -> tuple[int, int]:
        command = [*warm.script(script), str(folder), "--model", str(model), "-q"]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        code, kilobytes = map(int, ran.stdout.split())
        return code, kilobytes * 1024

    write(tmp_path / "one/a.jpg", jpeg(20))
    _, plain = peak(tmp_path / "one")
    code, bombs = peak(tmp_path / "p")
    assert code == 3
    assert bombs - plain < 600e6  # all of them at once would take twice that
    assert len(list((tmp_path / "p-restored").glob("*.jpg"))) == 24


def test_a_step_that_takes_too_long_is_given_up_and_its_result_dropped() -> None:
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0])

    def step() -> None:
        now[0] = 10
        assert patience.overdue() == []
        now[0] = 11
        ((photo, error, thread),) = patience.overdue()
        assert (photo, thread) == ("photo", threading.current_thread())
        assert "after 10 s" in str(error)
        with pytest.raises(TookTooLong):
            patience.commit("photo")

    assert patience.take("photo", 0, step) is False
    assert patience.take("other", 0, lambda: None) is True


def test_steps_are_noted_under_the_lock() -> None:
    patience = Patience(10)

    class Steps(dict[Any, Any]):
        def __getattribute__(self, name: str) -> Any:
            assert patience._lock.locked()
            return super().__getattribute__(name)

        def __contains__(self, photo: object) -> bool:
            assert patience._lock.locked()
            return super().__contains__(photo)

        def __setitem__(self, photo: object, step: object) -> None:
            assert patience._lock.locked()
            super().__setitem__(photo, step)

    patience._steps = Steps()

    def step() -> None:
        patience.commit("photo")
        assert patience.overdue() == []

    assert patience.take("photo", 0, step)


def test_a_photo_whose_file_is_about_to_appear_is_not_given_up_any_more() -> None:
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0])

    def step() -> None:
        patience.commit("photo")
        now[0] = 100
        assert patience.overdue() == []

    assert patience.take("photo", 0, step) is True


def test_the_limit_grows_with_the_photo_unless_it_is_given() -> None:
    assert Patience(None).limit(200_000_000) > 24 * 3600
    assert Patience(None).limit(0) == 600
    assert Patience(7).limit(200_000_000) == 7


def test_jobs_are_done_by_as_many_threads_as_asked_for_and_the_end_waits_for_all() -> None:
    workers, together, free = Workers(2, "test"), threading.Barrier(3), threading.Event()
    done: list[str] = []

    def job() -> None:
        together.wait(10)
        free.wait(10)
        done.append(threading.current_thread().name)

    for _ in range(2):
        workers.submit(job)
    together.wait(10)
    workers.submit(lambda: done.append("the last"))
    threading.Timer(0.05, free.set).start()
    workers.end()
    assert sorted(done) == ["test", "test", "the last"]


def test_only_a_thread_of_its_own_is_replaced() -> None:
    workers = Workers(1, "only one")
    workers.replace(threading.current_thread())
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "only one")
    assert thread.daemon  # so that it never keeps the program from ending
    workers.end()


def test_a_thread_that_hangs_is_replaced_and_keeps_nothing_from_ending() -> None:
    workers, hang, done = Workers(1, "test"), threading.Event(), threading.Event()
    hung: list[threading.Thread] = []

    def stuck() -> None:
        hung.append(threading.current_thread())
        hang.wait()

    workers.submit(stuck)
    workers.submit(done.set)
    while not hung:
        time.sleep(0.01)
    assert not done.wait(0.2)
    workers.replace(hung[0])
    assert done.wait(5)
    workers.end()
    hang.set()
    hung[0].join(5)
    assert not hung[0].is_alive()


def test_a_thread_that_was_replaced_while_it_waited_keeps_nothing_from_ending() -> None:
    """Its step had ended at the last moment."""
    workers = Workers(1, "punctual")
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "punctual")
    workers.replace(thread)
    ending = threading.Thread(target=workers.end, daemon=True)
    ending.start()
    ending.join(5)
    assert not ending.is_alive()
    thread.join(5)
    assert not thread.is_alive()


def slowly(free: threading.Event, original: Callable[..., Any], path_of: Callable[..., Path]) -> Callable[..., Any]:
    """A step that takes until something is free, or far too long, for photos whose name says so."""

    def call(*arguments: Any, **named: Any) -> Any:
        if "slow" in path_of(*arguments).name and not free.wait(30):
            free.set()
        return original(*arguments, **named)

    return call


@pytest.mark.xdist_group("waiting")
@pytest.mark.slow
def test_an_error_that_ends_the_batch_does_not_wait_for_a_disk_that_hangs(
    run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("0", "slow"):
        write(tmp_path / f"p/{name}.jpg", jpeg(20, image=scene(seed=len(name))))
    damaged = shutil.copytree(model, tmp_path / "damaged")
    (damaged / "weights.safetensors").write_bytes(b"x")
    free = threading.Event()
    monkeypatch.setattr(recall, "read_whole", slowly(free, recall.read_whole, lambda path: path))
    ran = run(tmp_path / "p", "--model", damaged, "--timeout", 1, "--jobs", 2)
    assert not free.is_set(), "it waited for the disk"
    free.set()
    assert ran.code == 4
    assert "does not match its checksum" in ran.err


@pytest.mark.xdist_group("waiting")
@pytest.mark.slow
def test_an_abandoned_run_does_not_wait_for_a_disk_that_hangs(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codiff_batch import formats

    for name in ("0", "slow"):
        write(tmp_path / f"p/{name}.jpg", jpeg(20, image=scene(seed=len(name))))
    free = threading.Event()
    monkeypatch.setattr(formats, "encode", slowly(free, formats.encode, lambda pixels, photo, *_: photo.path))
    options = BatchOptions((tmp_path / "p",), model=str(model), timeout=1, jobs=2)
    outcomes = run_pipeline(options, plan(options))
    assert next(outcomes).outcome == "restored"
    outcomes.close()
    assert not free.is_set(), "it waited for the disk"
    free.set()


@pytest.mark.xdist_group("waiting")
@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("step", ["look", "read", "decode", "encode"])
def test_photos_that_take_for_ever_fail_with_the_reason_and_the_others_are_done(
    run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for index in range(5):
        write(tmp_path / f"p/{index}.jpg", jpeg(20, image=scene(seed=index)))
    for index in range(3):  # more than there are threads
        write(tmp_path / f"p/slow{index}.jpg", jpeg(20, image=scene(seed=index)))
    free = threading.Event()
    slow = partial(slowly, free)
    if step == "look":
        monkeypatch.setattr(pipeline._Pipeline, "_size", slow(pipeline._Pipeline._size, lambda run, task: task.source))
        monkeypatch.setattr(process, "canonical", slow(process.canonical, lambda path: path))  # nobody looks again
    elif step == "read":
        monkeypatch.setattr(recall, "read_whole", slow(recall.read_whole, lambda path: path))
    elif step == "decode":
        monkeypatch.setattr(JpegPhoto, "decode", slow(JpegPhoto.decode, lambda photo: photo.path))
    else:
        from codiff_batch import formats

        monkeypatch.setattr(formats, "encode", slow(formats.encode, lambda pixels, photo, *_: photo.path))
    ran = run(tmp_path / "p", "--model", model, "--timeout", 3, "--jobs", 2)
    assert not free.is_set(), "it waited for them"
    free.set()
    assert ran.code == 3
    assert "5 restored, 0 skipped, 3 failed" in ran.err
    assert "given up after 3 s (see --timeout)" in ran.err
    time.sleep(0.5)
    assert len(list((tmp_path / "p-restored").glob("*.jpg"))) == 5  # what comes of it later is dropped
    monkeypatch.undo()
    assert "3 restored, 5 skipped" in run(tmp_path / "p", "--model", model).err


@pytest.mark.slow
def test_a_photo_whose_network_takes_for_ever_is_given_up_between_tiles(
    run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "p/large.jpg", jpeg(20, image=scene(900, 700)))
    write(tmp_path / "p/small.jpg", jpeg(20))
    real, shift = time.monotonic, [0.0]

    def later(tile: object) -> float:
        shift[0] += 30
        return real() + shift[0]

    monkeypatch.setattr(pipeline.time, "monotonic", lambda: later(None))
    ran = run(tmp_path / "p", "--model", model, "--timeout", 100)
    assert ran.code == 3
    assert "1 restored, 0 skipped, 1 failed" in ran.err
    assert "given up after 100 s" in ran.err


@pytest.mark.slow
def test_a_picture_whose_progress_refuses_it_leaves_the_others_alone(model: Path) -> None:
    def refuse(done: int, tiles: int) -> None:
        raise TookTooLong("enough")

    restorer = Restorer.load(model, "cpu")
    pixels = np.asarray(scene(300, 200))
    requests = [Request(pixels, key="refused", progress=refuse), Request(pixels, key="kept")]
    ended = {result.request.key: result for result in restorer.stream(requests)}
    assert isinstance(ended["refused"].error, TookTooLong)
    assert ended["kept"].levels is not None
