"""Processes and cluster actors, as threads: who gets which photo, and what becomes of it if its helper dies."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from codiff_batch.batch import cluster, devices
from codiff_batch.batch.cluster import PhotoWorker
from codiff_batch.batch.devices import run_on_devices
from codiff_batch.batch.ledger import read_ledger
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.batch.plan import Task, plan
from codiff_batch.batch.run import run as restore_all
from codiff_batch.errors import DeviceUnavailable, ModelNotFound
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(3):
        write(tmp_path / f"p/{index}.jpg", jpeg(20, image=scene(48, 48, seed=index)))
    return tmp_path / "p"


class RayError(Exception):
    """A worker died."""


class RayTaskError(RayError):
    """What a worker raised."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class Ray(ModuleType):
    """A cluster whose actors are objects of this process."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, **resources: int) -> None:
        super().__init__("ray")
        self.resources, self.calls, self.actors = resources, [], []  # type: ignore[var-annotated]
        self.process: Callable[..., Outcome] | None = None
        self._threads = ThreadPoolExecutor(16)

    def init(self, address: str, *, ignore_reinit_error: bool, log_to_driver: bool, logging_level: int) -> None:
        if "init here" in self.calls and not ignore_reinit_error:
            raise RuntimeError("called twice")
        if log_to_driver:
            sys.stdout.write("what an actor prints")
        self.calls.append(f"init {address}")

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def cluster_resources(self) -> dict[str, int]:
        return self.resources

    def remote(self, **needs: int) -> Any:
        def start(kind: type[PhotoWorker]) -> Any:
            def actor(options: BatchOptions) -> Any:
                self.actors.append(needs)
                process = self.process or kind(options).process
                return SimpleNamespace(process=SimpleNamespace(remote=lambda *a: self._threads.submit(process, *a)))

            return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=actor))

        return start

    def wait(self, running: list[Future[Outcome]], timeout: float) -> tuple[list[Any], list[Any]]:
        done, others = wait(running, timeout, FIRST_COMPLETED)
        return [*done], [*others]

    def get(self, done: Future[Outcome]) -> Outcome:
        return done.result()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    started = Ray(CPU=2)
    monkeypatch.setitem(sys.modules, "ray", started)
    return started


@pytest.mark.slow
def test_actors_do_every_photo_and_this_process_writes_it_down(run, photos: Path, model: Path, ray: Ray) -> None:
    write(photos / "torn.jpg", jpeg(20)[:300])
    ran = run(photos, "--model", model, "--cluster", "there:1")
    assert "3 restored, 0 skipped, 1 failed" in ran.err
    assert ray.calls == ["init there:1", "shutdown"]
    assert "3 restored, 0 skipped, 1 failed, 0 left" in run("status", photos).out
    standing = read_ledger(photos.with_name("p-restored")).standing
    assert {str(place) for place, what in standing.items() if what.made} == {"0.jpg", "1.jpg", "2.jpg"}
    assert "0 restored, 3 skipped, 1 failed" in run(photos, "--model", model).err


@pytest.mark.parametrize(
    ("resources", "device", "actors"),
    [
        ({"CPU": 2}, "auto", 2 * [{"num_cpus": 1, "num_gpus": 0}]),
        ({"CPU": 64}, "auto", 3 * [{"num_cpus": 1, "num_gpus": 0}]),
        ({}, "auto", [{"num_cpus": 1, "num_gpus": 0}]),
        ({"CPU": 64, "GPU": 2}, "auto", 2 * [{"num_cpus": 0, "num_gpus": 1}]),
        ({"CPU": 2, "GPU": 3}, "cpu", 2 * [{"num_cpus": 1, "num_gpus": 0}]),
    ],
)
def test_there_is_an_actor_for_each_gpu_or_else_each_cpu_but_no_more_than_photos(
    run, photos: Path, model: Path, ray: Ray, resources: dict[str, int], device: str, actors: list[dict[str, int]]
) -> None:
    ray.resources = resources
    ray.process = lambda task, recall: Outcome(task.source, None, Kind.SKIPPED, "")
    assert "3 skipped" in run(photos, "--model", model, "--cluster", "auto", "--device", device).err
    assert ray.actors == actors


def test_a_photo_whose_actor_keeps_dying_fails_alone(run, photos: Path, model: Path, ray: Ray) -> None:
    def dies(task: Task, recall: object) -> Outcome:
        if task.source.name == "1.jpg":
            raise RayError
        return Outcome(task.source, None, Kind.SKIPPED, "")

    ray.process = dies
    ran = run(photos, "--model", model, "--cluster", "auto")
    assert ran.code == 3
    assert "0 restored, 2 skipped, 1 failed" in ran.err
    assert "its worker died 4 times: RayError" in ran.err


def test_what_ends_all_actors_ends_the_run_and_leaves_the_cluster(run, photos: Path, model: Path, ray: Ray) -> None:
    def refuse(task: Task, recall: object) -> Outcome:
        raise RayTaskError(DeviceUnavailable("no such device"))

    ray.process = refuse
    ran = run(photos, "--model", model, "--cluster", "auto")
    assert ran.code == 4
    assert "no such device" in ran.err
    assert ray.calls[-1] == "shutdown"


def test_what_an_actor_that_died_left_is_removed_at_the_end(photos: Path, model: Path, ray: Ray) -> None:
    """From Python, where nobody can ask the run to stop."""
    left = photos.with_name("p-restored") / ".codiff-batch-all-dead.tmp"

    def process(task: Task, recall: object) -> Outcome:
        write(left, b"half")
        return Outcome(task.source, None, Kind.SKIPPED, "")

    ray.process = process
    options = BatchOptions((photos,), model=str(model), cluster="auto")
    assert [outcome.outcome for outcome in restore_all(options)] == 3 * [Kind.SKIPPED]
    assert not left.exists()


def test_a_photo_that_no_actor_needs_to_see_is_written_down_too(run, photos: Path, model: Path, ray: Ray) -> None:
    write(photos / "large.jpg", bytes(2_000_000))
    ray.process = lambda task, recall: Outcome(task.source, None, Kind.SKIPPED, "")
    ran = run(photos, "--model", model, "--cluster", "auto", "--max-megabytes", 1)
    assert "0 restored, 3 skipped, 1 failed" in ran.err
    assert "0 restored, 3 skipped, 1 failed, 0 left" in run("status", photos).out


@pytest.mark.parametrize("error", [ConnectionError, PermissionError, ValueError, RuntimeError])
def test_whatever_keeps_the_cluster_away_is_one_line(
    run, photos: Path, model: Path, ray: Ray, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(address: str, **_: object) -> None:
        raise error("nobody there")

    monkeypatch.setattr(ray, "init", refuse)
    ran = run(photos, "--model", model, "--cluster", "there:1")
    assert ran.code == 4
    assert "no Ray cluster at there:1: nobody there" in ran.err


def test_without_ray_a_cluster_is_refused_with_what_to_install(
    run, photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = run(photos, "--model", model, "--cluster", "auto")
    assert ran.code == 2
    assert "pip install 'codiff-batch[ray]'" in ran.err


def test_an_actor_tells_every_caller_what_is_wrong_and_tries_again_for_the_next(photos: Path) -> None:
    options, before = BatchOptions((photos,), model="no-such-model"), threading.enumerate()
    worker = PhotoWorker(options)
    assert [thread.daemon for thread in threading.enumerate() if thread not in before] == [True]
    for task in plan(options):
        with pytest.raises(ModelNotFound):
            worker.process(task, None)


@pytest.mark.slow
def test_a_cluster_that_this_process_has_joined_already_is_used_and_its_actors_print_nothing(
    run, photos: Path, model: Path, ray: Ray
) -> None:
    ray.init("here", ignore_reinit_error=False, log_to_driver=False, logging_level=0)
    ran = run(photos, "--model", model, "--cluster", "here", "-q")
    assert (ran.code, ran.out) == (0, "")
    assert ray.calls == ["init here", "init here", "shutdown"]


def test_an_actor_takes_the_next_photo_once_it_is_done_with_one(
    run, photos: Path, model: Path, ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PHOTOS_AHEAD", 1)
    ray.resources = {"CPU": 1}
    assert "3 restored, 0 skipped, 0 failed" in run(photos, "--model", model, "--cluster", "auto").err


def test_a_cluster_that_is_told_to_stop_at_once_gets_no_photo(photos: Path, model: Path, ray: Ray) -> None:
    stop = threading.Event()
    stop.set()
    assert list(restore_all(BatchOptions((photos,), model=str(model), cluster="auto"), stop=stop)) == []
    assert ray.calls == ["init auto", "shutdown"]


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_users_own_copy_where_the_output_would_be_stays_the_users(
    run, tmp_path: Path, model: Path, ray: Ray, overwrite: tuple[str, ...]
) -> None:
    good = jpeg(95)
    write(tmp_path / "p/good.jpg", good)
    write(tmp_path / "p-restored/good.jpg", good)
    assert (
        "0 restored, 1 skipped"
        in run(tmp_path / "p", "--model", model, "--cluster", "auto", "--min-qf", 1, *overwrite).err
    )
    assert read_ledger(tmp_path / "p-restored").standing == {}


class Process(threading.Thread):
    """A thread in place of a process."""

    terminated: ClassVar[list[str]]

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], name: str, daemon: bool) -> None:
        super().__init__(name=name, daemon=daemon)
        options, roots, connection, stop = args
        # A process has a descriptor of its own.
        self._own = Connection(os.dup(connection.fileno()))
        self._work = lambda: target(options, roots, self._own, stop)

    def run(self) -> None:
        self._work()
        self._own.close()
        time.sleep(0.05)  # A process has ended a little later than what it had open is closed.

    @property
    def exitcode(self) -> int | None:
        return None if self.is_alive() else -9

    def terminate(self) -> None:
        self.terminated.append(self.name)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    ignored: list[str] = []
    monkeypatch.setattr(Process, "terminated", [], raising=False)
    threads = SimpleNamespace(Event=threading.Event, Pipe=Pipe, Process=Process)
    monkeypatch.setattr(devices.multiprocessing, "get_context", lambda way: threads)
    ignore = signal.SIG_IGN
    monkeypatch.setattr("signal.signal", lambda number, how: how is ignore and ignored.append(number.name))
    return ignored


@pytest.mark.slow
def test_each_device_gets_photos_and_leaves_signals_to_the_first_process(
    run, photos: Path, model: Path, signals: list[str]
) -> None:
    write(photos / "torn.jpg", jpeg(20)[:300])
    ran = run(photos, "--model", model, "--device", "cpu,cpu")
    assert "3 restored, 0 skipped, 1 failed" in ran.err
    assert signals.count("SIGINT") == signals.count("SIGTERM") == signals.count("SIGHUP") == 2
    assert "0 restored, 3 skipped, 1 failed" in run(photos, "--model", model, "--device", "cpu,cpu").err


def on_devices(photos: Path, *names: str, stop: threading.Event | None = None, **rest: Any) -> list[Outcome]:
    options = BatchOptions((photos,), devices=names, **rest)
    return list(run_on_devices(options, plan(options), (), stop=stop or threading.Event()))


def test_photos_of_dead_processes_fail_with_the_reason(
    photos: Path, signals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "PHOTOS_AHEAD", 1)
    monkeypatch.setattr(devices, "_help", lambda options, roots, connection, stop: connection.recv())
    outcomes = on_devices(photos, "cpu", "cuda:1")
    assert sorted(outcome.source.name for outcome in outcomes) == ["0.jpg", "1.jpg", "2.jpg"]
    assert {outcome.code for outcome in outcomes} == {"process-died"}
    assert {outcome.reason for outcome in outcomes} == {
        "the process on cpu died (exit code -9); run the command again",
        "the process on cuda:1 died (exit code -9); run the command again",
        "no process was left to work on it; run the command again",
    }


def test_a_device_that_one_process_misses_ends_the_run_though_the_others_could_do_its_work(
    photos: Path, model: Path, signals: list[str]
) -> None:
    with pytest.raises(DeviceUnavailable, match="cuda:77"):
        on_devices(photos, "cpu", "cuda:77", model=str(model))


def test_when_told_to_stop_no_photo_is_called_a_failure(
    photos: Path, signals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_stopped(options: object, roots: object, connection: Connection, stop: threading.Event) -> None:
        assert stop.wait(60)
        connection.send(None)

    monkeypatch.setattr(devices, "PHOTOS_AHEAD", 1)
    monkeypatch.setattr(devices, "_help", until_stopped)
    stop = threading.Event()
    stop.set()
    assert on_devices(photos, "cpu", stop=stop) == []


def test_only_the_photos_that_a_dead_process_had_not_finished_fail(
    photos: Path, signals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_after_one(options: object, roots: object, connection: Connection, stop: object) -> None:
        connection.send(Outcome(connection.recv().source, None, Kind.SKIPPED, ""))
        assert connection.poll(60)  # It dies with a photo unread, so that its connection is reset.

    monkeypatch.setattr(devices, "PHOTOS_AHEAD", 1)
    monkeypatch.setattr(devices, "_help", dies_after_one)
    assert [(outcome.source.name, outcome.outcome, outcome.reason) for outcome in on_devices(photos, "cpu")] == [
        ("0.jpg", Kind.SKIPPED, ""),
        ("1.jpg", Kind.FAILED, "the process on cpu died (exit code -9); run the command again"),
        ("2.jpg", Kind.FAILED, "no process was left to work on it; run the command again"),
    ]


def test_a_process_gets_another_photo_for_each_that_it_has_finished(
    photos: Path, signals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def skip(options: object, roots: object, connection: Connection, stop: object) -> None:
        while connection.poll(10) and (task := connection.recv()):
            connection.send(Outcome(task.source, None, Kind.SKIPPED, ""))
        connection.send(None)

    monkeypatch.setattr(devices, "PHOTOS_AHEAD", 1)
    monkeypatch.setattr(devices, "_help", skip)
    assert [outcome.outcome for outcome in on_devices(photos, "cpu")] == 3 * [Kind.SKIPPED]


def test_photos_that_a_process_had_not_begun_when_it_was_told_to_stop_are_no_failures(
    photos: Path, model: Path, signals: list[str]
) -> None:
    stop = threading.Event()
    stop.set()
    assert {outcome.outcome for outcome in on_devices(photos, "cpu", stop=stop, model=str(model))} <= {Kind.RESTORED}


def test_processes_of_a_run_that_nobody_goes_on_with_have_a_moment_to_end_before_they_are_ended(
    photos: Path, signals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    def until_stopped(options: BatchOptions, roots: object, connection: Connection, stop: threading.Event) -> None:
        connection.send(Outcome(connection.recv().source, None, Kind.SKIPPED, ""))
        assert stop.wait(60)
        with pytest.raises((EOFError, OSError)):
            while connection.poll(60):
                connection.recv()
        assert threading.current_thread().daemon  # Python ends such a process with its first one, come what may.
        ended.append(options.devices[0])

    monkeypatch.setattr(devices, "POLL_SECONDS", 60)
    monkeypatch.setattr(devices, "_help", until_stopped)
    options = BatchOptions((photos,), devices=("cpu",))
    outcomes = run_on_devices(options, plan(options), (), stop=threading.Event())
    assert next(outcomes).outcome is Kind.SKIPPED
    outcomes.close()
    assert ended == Process.terminated == ["cpu"]


@pytest.mark.parametrize("photos_given", [0, 1])
def test_a_process_whose_first_process_is_gone_ends_quietly(
    photos: Path, model: Path, signals: list[str], photos_given: int
) -> None:
    options = BatchOptions((photos,), model=str(model))
    ours, theirs = Pipe()
    for task in [*plan(options)[:photos_given], None][: 2 * photos_given]:
        ours.send(task)
    ours.close()
    devices._help(options, (), theirs, threading.Event())


def test_what_a_process_that_died_left_is_removed_at_the_end(
    photos: Path, model: Path, signals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = photos.with_name("p-restored") / ".codiff-batch-all-dead.tmp"

    def dies(options: object, roots: object, connection: Connection, stop: object) -> None:
        connection.recv()
        write(left, b"half")

    monkeypatch.setattr(devices, "_help", dies)
    ended = list(restore_all(BatchOptions((photos,), model=str(model), devices=("cpu", "cpu"))))
    assert [outcome.outcome for outcome in ended] == 3 * [Kind.FAILED]
    assert not left.exists()


@pytest.mark.slow
def test_a_copy_that_an_actor_made_follows_its_source_also_after_a_failed_attempt(
    run, tmp_path: Path, model: Path, ray: Ray
) -> None:
    photo, copy = tmp_path / "p/good.jpg", tmp_path / "p-restored/good.jpg"
    first, second = (jpeg(95, image=scene(seed=seed)) for seed in (1, 2))
    for data in (first, second[:400], second):
        write(photo, data)
        run(tmp_path / "p", "--model", model, "--cluster", "auto", "--copy-skipped", "--min-qf", 1)
    assert copy.read_bytes() == second


def test_a_photo_that_is_gone_once_it_is_restored_ends_no_run(run, photos: Path, model: Path, ray: Ray) -> None:
    def restore(task: Task, recall: object) -> Outcome:
        write(task.target, b"restored")
        if task.source.name == "1.jpg":
            task.source.unlink()
        return Outcome(task.source, task.target, Kind.RESTORED, "")

    ray.process = restore
    assert "3 restored, 0 skipped, 0 failed" in run(photos, "--model", model, "--cluster", "auto").err
