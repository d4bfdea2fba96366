"""What people do to a daemon over a year: other options, full disks, moved folders, exhausted limits."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from codiff_batch.batch.options import BatchOptions
from codiff_batch.errors import OptionsConflict
from codiff_batch.watch.daemon import Daemon, WatchOptions
from codiff_batch.watch.eyes import raises_no_events
from tests import warm
from tests.batch.test_hostile_disks import in_mount_namespace, needs_mount
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model
from tests.watch.watched import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("waiting")]  # in one process: the others have work


def test_a_settle_time_longer_than_the_time_between_scans_works(watch, tmp_path: Path) -> None:
    write(tmp_path / "in/a.jpg", jpeg(20))
    daemon = watch("--polling", "--rescan", 1, "--settle", 2)
    daemon.wait_for_outcomes(1)
    assert daemon.stop() == 143


def test_changed_options_or_model_are_applied_at_the_next_start_as_the_batch_does(run, tmp_path: Path) -> None:
    write(tmp_path / "in/bad.jpg", jpeg(20))
    write(tmp_path / "in/good.jpg", jpeg(70, image=scene(seed=1)))
    tiny, other = make_tiny_model(tmp_path / "tiny"), make_tiny_model(tmp_path / "other", tile=128)

    def done(*arguments: object, model: Path = tiny) -> int:
        words = ("watch", tmp_path / "in", "-o", tmp_path / "out", "--once", "--settle", 0, "--model", model)
        return run(*words, *arguments).err.count(" restored: ")

    assert done("--min-qf", 0) == 0
    assert done() == 2
    assert done() == 0
    assert done(model=other) == 2
    assert done("--overwrite", model=other) == 2
    assert done(model=other) == 0
    (tmp_path / "out/bad.jpg").unlink()
    assert done(model=other) == 1


@needs_mount
def test_a_disk_that_was_full_for_a_while_gets_its_photos_without_a_restart(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "photo.jpg", jpeg(20, image=scene(256, 256)))
    (tmp_path / "out").mkdir()
    (tmp_path / "in").mkdir()
    script = """
        mount -t tmpfs -o size=1200k none "$2/out"
        $P watch "$2/in" -o "$2/out" --settle 0.2 --model "$1" --format tiff 2> "$2/log" &
        for i in $(seq 300); do grep -q watching "$2/log" && break; sleep .1; done
        head -c 1100k /dev/zero > "$2/out/filler"
        cp "$2/photo.jpg" "$2/in/a.jpg"
        for i in $(seq 300); do grep -q failed "$2/log" && break; sleep .1; done
        rm "$2/out/filler"
        for i in $(seq 300); do [ -e "$2/out/a.tif" ] && break; sleep .1; done
        ls "$2/out"; kill $!; wait $!
    """
    ran = in_mount_namespace(script, model, tmp_path)
    assert "a.tif" in ran.stdout, (tmp_path / "log").read_text()
    assert "No space left" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("limit", "value"), [("max_inotify_watches", 3), ("max_inotify_watches", 0), ("max_inotify_instances", 0)]
)
def test_where_the_system_allows_no_more_watches_folders_are_scanned_and_that_is_said_once(
    tmp_path: Path, model: Path, limit: str, value: int
) -> None:
    if subprocess.run(
        ["unshare", "-Ur", "sh", "-c", f"echo 1 > /proc/sys/user/{limit}"], capture_output=True
    ).returncode:
        pytest.skip("user namespaces have no limits of their own here")
    for number in range(9):
        (tmp_path / f"in/{number}").mkdir(parents=True)
    photo = write(tmp_path / "photo.jpg", jpeg(20))
    script = f"""
        echo {value} > /proc/sys/user/{limit}
        $1 watch "$2/in" -o "$2/out" --settle 0.2 --rescan 1 --model "$3" 2> "$2/log" &
        for i in $(seq 300); do grep -q watching "$2/log" && break; sleep .1; done
        cp "$2/photo.jpg" "$2/in/8/late.jpg"
        for i in $(seq 300); do [ -e "$2/out/8/late.jpg" ] && break; sleep .1; done
        sleep 2; kill $!; wait $!
    """
    command = ["unshare", "-Ur", "bash", "-c", script, "bash", shlex.join(warm.program()), str(tmp_path), str(model)]
    subprocess.run(command, check=False, timeout=2 * PATIENCE)
    log = (tmp_path / "log").read_text()
    assert (tmp_path / "out/8/late.jpg").exists(), log
    assert photo.exists()
    assert log.count("cannot watch all folders by events") == 1
    assert len(log.splitlines()) < 8


@pytest.mark.parametrize("name", ["link", "real/../link", "real/in/."])
def test_a_watched_folder_is_seen_however_it_is_named(watch, tmp_path: Path, name: str) -> None:
    (tmp_path / "real/in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/in")
    daemon = watch("--rescan", 600, folders=(Path(f"{tmp_path}/{name}"),))
    daemon.wait_until_watching()
    write(tmp_path / "real/in/sub/a.jpg", jpeg(20))
    daemon.wait_for_outcomes(1)
    assert (tmp_path / "out/sub/a.jpg").exists()
    assert daemon.stop() == 143


def test_two_photos_with_one_output_collide_whichever_comes_first(watch, tmp_path: Path) -> None:
    daemon = watch("--format", "png", "--overwrite")
    daemon.wait_until_watching()
    write(tmp_path / "in/a.jpg", jpeg(20))
    daemon.wait_for_outcomes(1)
    first = (tmp_path / "out/a.png").read_bytes()
    write(tmp_path / "in/a.jpeg", jpeg(20, image=scene(seed=5)))
    daemon.wait_for_outcomes(2)
    assert "failed" in daemon.last("a.jpeg")
    assert "a.jpg" in daemon.last("a.jpeg")
    assert (tmp_path / "out/a.png").read_bytes() == first


def test_one_daemon_watches_several_folders(watch, tmp_path: Path) -> None:
    for folder in ("anna", "ben"):
        write(tmp_path / folder / "before.jpg", jpeg(20, image=scene(seed=len(folder))))
    daemon = watch(folders=(tmp_path / "anna", tmp_path / "ben"))
    daemon.wait_until_watching()
    write(tmp_path / "ben/late.jpg", jpeg(20))
    daemon.wait_for(lambda: sum(daemon.outcomes().values()) == 3)
    assert sorted(str(p.relative_to(daemon.out)) for p in daemon.out.rglob("*.jpg")) == [
        "anna/before.jpg", "ben/before.jpg", "ben/late.jpg",
    ]  # fmt: skip


def test_folders_that_lie_in_one_another_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    options = BatchOptions((tmp_path / "in", tmp_path / "in/sub"), output=tmp_path / "out")
    with pytest.raises(OptionsConflict, match="lies in"):
        Daemon(options, WatchOptions(), threading.Event())


def test_an_output_folder_that_was_moved_away_is_replaced_by_a_new_one(watch, tmp_path: Path) -> None:
    write(tmp_path / "in/a.jpg", jpeg(20))
    daemon = watch("--rescan", 600)
    daemon.wait_for_outcomes(1)
    (tmp_path / "out").rename(tmp_path / "taken")
    write(tmp_path / "in/b.jpg", jpeg(20, image=scene(seed=2)))
    daemon.wait_for(lambda: (tmp_path / "out/a.jpg").exists() and (tmp_path / "out/b.jpg").exists())
    assert daemon.said("moved away") == 1
    second = watch()
    assert second.program.wait(PATIENCE) == 5  # the new one has its lock
    assert daemon.stop() == 143
    assert sorted(p.name for p in (tmp_path / "taken").glob("*.jpg")) == ["a.jpg"]


@pytest.mark.parametrize(
    ("mounts", "polled"),
    [
        ([("/", "ext4"), ("/srv", "autofs"), ("/srv", "nfs4")], True),
        ([("/", "ext4"), ("/srv", "autofs"), ("/srv", "xfs")], False),
        ([("/", "ext4"), ("/srv", "autofs")], True),  # mounted when somebody looks into it
        ([("/", "ext4"), ("/srv", "cifs"), ("/srv", "xfs")], False),
        ([("/", "nfs4"), ("/srv", "xfs")], False),
        ([("/", "ext4"), ("/srv/other photos", "nfs4")], False),
    ],
)
def test_of_several_mounts_at_one_place_the_last_one_is_seen(
    monkeypatch: pytest.MonkeyPatch, mounts: list[tuple[str, str]], polled: bool
) -> None:
    found = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in mounts]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: found if all else [])
    assert raises_no_events(Path("/srv/photos")) is polled


@needs_mount
def test_another_disk_at_the_same_place_is_seen_though_its_root_has_the_same_number(tmp_path: Path) -> None:
    look = f"""if True:
        import subprocess
        from pathlib import Path
        from codiff_batch.watch.eyes import Eyes
        folder = Path({str(tmp_path)!r})
        with Eyes(folder) as eyes:
            before = eyes.see(), folder.stat().st_ino
            subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
            print(before == (True, folder.stat().st_ino), eyes.see())"""
    ran = in_mount_namespace('mount -t tmpfs none "$2"; "$1" -c "$3"', sys.executable, tmp_path, look)
    assert ran.stdout == "True False\n", ran.stderr


@pytest.mark.skipif(shutil.which("bindfs") is None, reason="needs bindfs, for a disk that goes and comes back")
@needs_mount
def test_a_disk_that_comes_back_under_another_number_is_worked_on_again(tmp_path: Path, model: Path) -> None:
    """A stick that is plugged in again is another device, and so is a share that is mounted again."""
    write(tmp_path / "photo.jpg", jpeg(20))
    for folder in ("in", "real", "disk"):
        (tmp_path / folder).mkdir()
    script = """
        cd "$2"; bindfs -f real disk & stick=$!
        for i in $(seq 100); do mountpoint -q disk && break; sleep .1; done
        mountpoint -q disk || exit 77
        $P watch in -o disk/out --settle 0.2 --model "$1" 2> log & daemon=$!
        for i in $(seq 300); do grep -q watching log && break; sleep .1; done
        cp photo.jpg in/a.jpg
        for i in $(seq 300); do grep -q restored log && break; sleep .1; done
        kill -9 $stick; umount -l disk
        for i in $(seq 300); do grep -q "waiting for it" log && break; sleep .1; done
        cp photo.jpg in/b.jpg; sleep 2; ls -A disk
        bindfs real disk
        for i in $(seq 300); do [ -e disk/out/b.jpg ] && break; sleep .1; done
        ls disk/out; kill $daemon; wait $daemon; umount disk
    """
    ran = in_mount_namespace(script, model, tmp_path)
    if ran.returncode == 77:
        pytest.skip("this machine allows no FUSE")
    log = (tmp_path / "log").read_text()
    assert ran.stdout.split() == ["a.jpg", "b.jpg"], log
    assert log.count("waiting for it") == 1
    assert log.count("is back") == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("--device", "cuda:77"), 4), (("--device", "cuda:0,cuda:1"), 2), (("--device", "abacus"), 4)],
)
def test_a_device_that_is_not_there_is_found_before_the_daemon_is_ready(
    watch, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    daemon = watch(*arguments)
    assert daemon.program.wait(PATIENCE) == code
    assert daemon.said("watching") == 0
    assert "Traceback" not in "".join(daemon.raw)


def test_a_damaged_model_is_found_before_the_daemon_is_ready(watch, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "damaged")
    (model / "weights.safetensors").write_bytes(b"x")
    daemon = watch(model=model)
    assert daemon.program.wait(PATIENCE) == 4
    assert daemon.said("watching") == 0


def test_links_pipes_and_folders_that_change_their_kind_never_end_the_daemon(watch, tmp_path: Path) -> None:
    daemon = watch("--rescan", 1)
    daemon.wait_until_watching()
    for number in range(8):
        folder = tmp_path / f"in/d{number}"
        write(folder / "x.jpg", jpeg(20))
        shutil.rmtree(folder)
        folder.symlink_to(folder)
    handle = os.open(tmp_path / "in", os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=handle)
        handle = os.open("d" * 200, os.O_RDONLY, dir_fd=handle)
    for number in range(20):
        write(tmp_path / f"in/{number:02}.jpg", jpeg(20, image=scene(seed=number)))
    daemon.wait_for_outcomes(3)
    (tmp_path / "in/19.jpg").unlink()
    os.mkfifo(tmp_path / "in/19.jpg")
    (tmp_path / "in/loop.jpg").symlink_to("loop.jpg")
    time.sleep(2)
    write(tmp_path / "in/last.jpg", jpeg(20))
    daemon.wait_for(lambda: daemon.last("last.jpg").startswith("restored"))
    assert daemon.outcomes()["d" * 200] == 1  # too long a path: said once, not with each scan
    assert daemon.stop() == 143
