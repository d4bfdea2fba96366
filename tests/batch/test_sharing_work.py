"""Shards, several devices and a cluster: every photo exactly once, whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from codiff_batch.batch.shard import Shard
from tests.cli.test_restore import tree
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


def make_photos(folder: Path, count: int, size: tuple[int, int] = (96, 64)) -> Path:
    for index in range(count):
        write(folder / f"{index:02}.jpg", jpeg(20, image=scene(*size, seed=index)))
    return folder


def test_each_photo_has_one_shard_whatever_else_the_folder_holds() -> None:
    names = [Path(f"{index}.jpg") for index in range(1000)]
    shards = [Shard(index, 4) for index in range(1, 5)]
    owners = [[shard for shard in shards if shard.owns(name)] for name in names]
    assert all(len(owning) == 1 for owning in owners)
    sizes = Counter(owning[0].index for owning in owners)
    assert min(sizes.values()) > 200
    assert Shard(2, 3).owns(Path("trip/a.jpg")) == Shard.parse("2/3").owns(Path("trip/a.jpg"))


def test_shards_come_from_slurms_array() -> None:
    names = ("ID", "MIN", "MAX", "STEP")
    environment = {f"SLURM_ARRAY_TASK_{n}": v for n, v in zip(names, ("12", "10", "16", "2"), strict=True)}
    assert Shard.parse("auto", environment) == Shard(2, 4)
    with pytest.raises(ValueError, match="SLURM"):
        Shard.parse("auto", {})


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/4", "1/b", "1/0", "-1/4"])
def test_a_wrong_shard_is_refused(run, tmp_path: Path, text: str) -> None:
    ran = run(tmp_path, f"--shard={text}")
    assert ran.code == 2
    assert "I/N" in ran.err


@pytest.mark.slow
def test_shards_together_do_all_and_each_keeps_its_journal(run, tmp_path: Path, model: Path) -> None:
    photos = make_photos(tmp_path / "p", 12)
    for index in (1, 2, 3):
        assert run(photos, "--model", model, "--shard", f"{index}/3").code == 0
    assert len(tree(tmp_path / "p-restored")) == 12
    journals = sorted(path.name for path in (tmp_path / "p-restored/.codiff-batch").glob("*.sqlite"))
    assert journals == ["journal-1-of-3.sqlite", "journal-2-of-3.sqlite", "journal-3-of-3.sqlite"]
    assert "12 restored, 0 skipped, 0 failed, 0 left" in run("status", photos).out


@pytest.mark.slow
def test_several_devices_share_the_photos_and_give_the_same_bytes(run, tmp_path: Path, model: Path) -> None:
    photos = make_photos(tmp_path / "p", 40)
    write(photos / "torn.jpg", jpeg(20)[:300])
    run(photos, "-o", tmp_path / "one", "--model", model)
    run(photos / "00.jpg", "-o", tmp_path / "two", "--model", model)
    ran = run(photos, "-o", tmp_path / "two", "--model", model, "--device", "cpu,cpu")
    assert ran.code == 3
    assert "39 restored, 1 skipped, 1 failed" in ran.err
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    again = run(photos, "-o", tmp_path / "two", "--model", model)
    assert "0 restored, 40 skipped, 1 failed" in again.err


@pytest.mark.slow
def test_a_device_that_is_not_there_ends_the_run(run, tmp_path: Path, model: Path) -> None:
    photos = make_photos(tmp_path / "p", 2)
    ran = run(photos, "--model", model, "--device", "cpu,cuda:77")
    assert ran.code == 4
    assert "cuda:77" in ran.err


@pytest.mark.slow
def test_the_photos_of_a_process_that_dies_fail_and_the_next_run_does_them(run, tmp_path: Path, model: Path) -> None:
    photos = make_photos(tmp_path / "p", 20, (120, 90))
    for index in range(20, 80):
        (photos / f"{index}.jpg").write_bytes((photos / f"{index % 20:02}.jpg").read_bytes())
    killed: list[int] = []

    def kill_one() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not killed:
            if list((tmp_path / "p-restored").glob("*.jpg")):
                helpers = multiprocessing.active_children()
                killed.append(helpers[0].pid or 0)
                os.kill(killed[0], signal.SIGKILL)
                (tmp_path / "p-restored/.codiff-batch-all-dead.tmp").write_bytes(b"as if it had died while writing")
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    ran = run(photos, "--model", model, "--device", "cpu,cpu")
    killer.join()
    assert killed
    assert ran.code == 3
    assert "the process on cpu died (exit code -9); run the command again" in ran.err
    assert not list((tmp_path / "p-restored").glob("*.tmp"))
    assert run(photos, "--model", model).code == 0
    assert len(tree(tmp_path / "p-restored")) == 80


@pytest.mark.xdist_group("ray")
@pytest.mark.slow(seconds=30)
def test_a_cluster_does_every_photo_once_though_an_actor_is_killed(
    run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default 15: as slow as the machine is busy
    photos = make_photos(tmp_path / "p", 60, (120, 90))
    killed: list[int] = []

    def kill_one() -> None:
        until = time.monotonic() + 90
        while time.monotonic() < until and not killed:
            if len(list((tmp_path / "p-restored").glob("*.jpg"))) >= 4:
                for process in psutil.process_iter(["cmdline"]):
                    if any("ray::PhotoWorker" in part for part in process.info["cmdline"] or ()):
                        killed.append(process.pid)
                        process.kill()
                        left = tmp_path / "p-restored/.codiff-batch-all-dead.tmp"
                        left.write_bytes(b"as if it had died while writing")
                        break
            time.sleep(0.01)

    done_before = photos / "00.jpg"
    run(done_before, "-o", tmp_path / "p-restored", "--model", model)
    killer = threading.Thread(target=kill_one)
    killer.start()
    ran = run(photos, "--model", model, "--cluster", "local", "-v")
    killer.join()
    assert killed
    assert ran.code == 0, ran.err
    assert "60 photos:" in ran.err
    assert ", 0 failed" in ran.err
    assert f"skipped: {done_before}: done before" in ran.err
    assert len(tree(tmp_path / "p-restored")) == 60
    assert "0 restored, 60 skipped" in run(photos, "--model", model).err
    assert "0 failed, 0 left" in run("status", photos).out


@pytest.mark.slow
@pytest.mark.xdist_group("ray")  # a cluster that another process starts would be found
def test_a_cluster_that_is_not_there_is_one_clear_line(run, tmp_path: Path, model: Path) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    photos = make_photos(tmp_path / "p", 1)
    ran = run(photos, "--model", model, "--cluster", "auto")
    assert ran.code == 4
    assert "no Ray cluster at auto" in ran.err


def test_a_cluster_does_not_work_in_place(run, tmp_path: Path) -> None:
    ran = run(make_photos(tmp_path / "p", 1), "--cluster", "auto", "--in-place", "--backup", tmp_path / "b")
    assert ran.code == 2
