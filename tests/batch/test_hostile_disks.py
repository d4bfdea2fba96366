"""Full, read-only and vanishing disks, links and pipes, and sources that change under our hands."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codiff_batch.batch import recall
from codiff_batch.batch.process import Opened, PhotoSteps, Sight, Work
from codiff_batch.engine.restorer import Restorer
from codiff_batch.files.reading import Contents
from codiff_batch.jpeg import JpegPhoto
from tests import warm
from tests.cli.test_restore import tree
from tests.faults.nobody import as_nobody, folder_for_all, needs_permissions
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


def may_mount() -> bool:
    command = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


def in_mount_namespace(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a shell script where it may mount; the program is ``$P``."""
    environment = {**os.environ, "P": shlex.join(warm.program())}
    command = ["unshare", "-Urm", "bash", "-c", script, "bash", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


needs_mount = pytest.mark.skipif(not may_mount(), reason="user namespaces may not mount here")


@pytest.mark.slow
@needs_mount
def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path, model: Path) -> None:
    for index in range(6):
        write(tmp_path / f"photos/{index}.jpg", jpeg(20, image=scene(160, 120, seed=index)))
    before = tree(tmp_path / "photos")
    script = """
        mount -t tmpfs -o size=96k none "$3"
        $P "$1" -o "$3/out" --model "$2"; code=$?
        find "$3" -name '*.tmp'
        for f in "$3"/out/*.jpg; do [ ! -e "$f" ] || tail -c 2 "$f" | od -An -tx1; done
        exit $code
    """
    (tmp_path / "disk").mkdir()
    ran = in_mount_namespace(script, tmp_path / "photos", model, tmp_path / "disk")
    assert ran.returncode in (3, 4), ran.stderr
    assert "No space left" in ran.stderr or "full" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ".tmp" not in ran.stdout
    assert set(ran.stdout.split()) <= {"ff", "d9"}  # every output that is there is whole
    assert tree(tmp_path / "photos") == before


@pytest.mark.slow
@needs_mount
def test_in_place_on_a_full_disk_keeps_the_originals(tmp_path: Path, model: Path) -> None:
    for index in range(3):
        write(tmp_path / f"photos/{index}.jpg", jpeg(20, image=scene(160, 120, seed=index)))
    before = {name: digest for name, (digest, _) in tree(tmp_path / "photos").items()}
    (tmp_path / "disk").mkdir()
    script = """
        mount -t tmpfs -o size=64k none "$3"
        cp "$1"/*.jpg "$3"
        $P "$3" --in-place --backup "$4" --model "$2"; code=$?
        cp -r "$3" "$5"
        exit $code
    """
    ran = in_mount_namespace(
        script, tmp_path / "photos", model, tmp_path / "disk", tmp_path / "kept", tmp_path / "seen"
    )
    assert "Traceback" not in ran.stderr
    kept = {name: digest for name, (digest, _) in tree(tmp_path / "kept").items()}
    for name, (digest, _) in tree(tmp_path / "seen").items():
        assert digest == before[name] or kept[name] == before[name]


@pytest.mark.slow
@needs_mount
def test_a_read_only_output_folder_ends_the_run_in_one_line(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "photos/a.jpg", jpeg(20))
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o ro none "$3"; $P "$1" -o "$3/out" --model "$2"'
    ran = in_mount_namespace(script, tmp_path / "photos", model, tmp_path / "disk")
    assert ran.returncode == 4
    assert "Read-only file system" in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.slow
def test_no_permission_is_said_of_each_photo(tmp_path: Path, model: Path) -> None:
    open_folder = Path("/var/tmp") / f"codiff-permission-{os.getpid()}"
    shutil.rmtree(open_folder, ignore_errors=True)
    try:
        shutil.copytree(model, open_folder / "tiny")
        write(open_folder / "photos/a.jpg", jpeg(20))
        write(open_folder / "photos/secret.jpg", jpeg(20)).chmod(0)
        (open_folder / "out").mkdir(mode=0o777)
        (open_folder / "out").chmod(0o777)
        code = (
            "import os, codiff_batch.cli.main as m\n"
            # Only root may be able to read the installed packages, so a first run imports all of them.
            "m.cli.main(['photos/a.jpg', '-o', 'first', '--model', './tiny'], standalone_mode=False)\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "m.main(['photos', '-o', 'out', '--model', './tiny'])"
        )
        ran = subprocess.run(warm.script(code), cwd=open_folder, capture_output=True, text=True)
        assert ran.returncode == 3, ran.stderr
        assert "secret.jpg: cannot be read: Permission denied" in ran.stderr
        assert "1 restored, 0 skipped, 1 failed" in ran.stderr
        (open_folder / "out").chmod(0o555)
        (open_folder / "out/.codiff-batch").chmod(0o555)
        ran = subprocess.run(warm.script(code), cwd=open_folder, capture_output=True, text=True)
        assert ran.returncode == 4
        assert "Permission denied" in ran.stderr or "readonly" in ran.stderr
        assert "Traceback" not in ran.stderr
    finally:
        shutil.rmtree(open_folder, ignore_errors=True)


@pytest.mark.slow
def test_links_pipes_and_folders_are_not_opened_for_writing_and_never_hang(run, tmp_path: Path, model: Path) -> None:
    photo = write(tmp_path / "p/a.jpg", jpeg(20))
    (tmp_path / "p/link.jpg").symlink_to(photo)
    (tmp_path / "p/dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "p/loop.jpg").symlink_to(tmp_path / "p/loop.jpg")
    (tmp_path / "p/loop").symlink_to(tmp_path / "p")
    os.link(photo, tmp_path / "p/hard.jpg")
    os.mkfifo(tmp_path / "p/pipe.jpg")
    (tmp_path / "p/album.jpg").mkdir()
    ran = run(tmp_path / "p", "--model", model, "-v")
    assert ran.code == 0
    assert sorted(tree(tmp_path / "p-restored")) == ["a.jpg", "hard.jpg", "link.jpg"]
    assert photo.read_bytes() == jpeg(20)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["replaced", "grown", "shrunk", "deleted", "replaced with the same size and time"])
def test_a_source_that_changes_during_the_network_is_left_for_the_next_run(
    run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    photo = write(tmp_path / "p/a.jpg", jpeg(20))
    write(tmp_path / "p/b.jpg", jpeg(21, image=scene(seed=3)))

    def change() -> None:
        data, times = photo.read_bytes(), photo.stat()
        if what == "grown":
            photo.write_bytes(data + b"x")
        elif what == "shrunk":
            photo.write_bytes(data[:-9])
        elif what == "deleted":
            photo.unlink()
        else:
            edited = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
            other = write(tmp_path / "other", edited if "same" in what else jpeg(30))
            os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
            other.rename(photo)

    work, done = Restorer.stream, []

    def stream(self: Restorer, requests: object) -> object:
        for result in work(self, requests):  # type: ignore[arg-type]
            if result.request.key.task.source == photo and not done:
                done.append(True)
                change()
            yield result

    monkeypatch.setattr(Restorer, "stream", stream)
    ran = run(tmp_path / "p", "--in-place", "--backup", tmp_path / "kept", "--model", model)
    assert ran.code == 3
    assert "1 restored, 0 skipped, 1 failed" in ran.err
    assert "changed while it was worked on" in ran.err or "cannot be read" in ran.err
    assert photo.exists() != (what == "deleted")
    if photo.exists():
        assert b"codiff-batch" not in photo.read_bytes()


@pytest.mark.slow
def test_a_folder_that_vanishes_mid_run_fails_its_photos_alone(
    run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.jpg", "b/2.jpg", "b/3.jpg", "c/4.jpg"):
        write(tmp_path / "p" / name, jpeg(20, image=scene(seed=ord(name[0]))))
    read = recall.read_whole

    def read_photo(path: Path, **named: Any) -> Contents:
        if path.parent.name == "b":
            shutil.rmtree(tmp_path / "p/b", ignore_errors=True)
        return read(path, **named)

    monkeypatch.setattr(recall, "read_whole", read_photo)
    ran = run(tmp_path / "p", "--model", model)
    assert ran.code == 3
    assert "2 restored, 0 skipped, 2 failed" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("place", ["decode", "network", "commit"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_anywhere_leaves_whole_photos_only(
    tmp_path: Path, model: Path, place: str, number: signal.Signals
) -> None:
    for index in range(12):
        write(tmp_path / f"p/{index:02}.jpg", jpeg(20, image=scene(160, 120, seed=index)))
    before = tree(tmp_path / "p")
    command = [*warm.program("tests.faults.signals"), place, str(int(number)), str(tmp_path / "p")]
    ran = subprocess.run([*command, "--model", str(model)], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 128 + number
    assert "photos not done" in ran.stderr
    assert "Traceback" not in ran.stderr
    outputs = tree(tmp_path / "p-restored")
    assert all(JpegPhoto.open(tmp_path / "p-restored" / name).metadata().restored_by for name in outputs)
    assert tree(tmp_path / "p") == before


@pytest.mark.slow
def test_a_second_signal_quits_at_once(tmp_path: Path, model: Path) -> None:
    for index in range(4):
        write(tmp_path / f"p/{index}.jpg", jpeg(20, image=scene(1200, 900, seed=index)))
    command = [*warm.program("tests.faults.signals"), "network", str(int(signal.SIGTERM)), str(tmp_path / "p")]
    with subprocess.Popen([*command, "--model", str(model)], cwd=ROOT, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        assert "stop again to quit at once" in program.stderr.readline()
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == 143
    assert not [path for path in (tmp_path / "p-restored").glob("*.jpg") if not JpegPhoto.open(path)]


@pytest.mark.slow
@needs_permissions
@pytest.mark.parametrize("place", [("-o", "out"), ("--in-place", "--backup", "out")], ids=["beside", "in place"])
def test_a_folder_of_outputs_that_may_not_be_entered_costs_its_photos_alone(
    run, model: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[str, ...]
) -> None:
    with folder_for_all() as folder:
        monkeypatch.chdir(folder)
        shutil.copytree(model, "tiny")
        for name in ("a.jpg", "closed/deep/b.jpg"):
            write(Path("photos", name), jpeg(20))
        Path("out/closed/deep").mkdir(parents=True)
        for path in folder.rglob("*"):
            path.chmod(0o777)
        Path("out/closed").chmod(0)
        run("photos", "-o", "before", "--model", "./tiny")  # Nobody may not load modules from a private environment.
        with as_nobody():
            ran = run("photos", *place, "--model", "./tiny")
        assert ran.code == 3
        assert "1 restored, 0 skipped, 1 failed" in ran.err
        assert "Permission denied" in ran.err
        assert Path("photos/closed/deep/b.jpg").read_bytes() == jpeg(20)


@pytest.mark.slow
def test_a_photo_that_vanishes_right_after_it_was_written_stops_nothing(
    run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b.jpg"):
        write(tmp_path / "p" / name, jpeg(20, image=scene(seed=ord(name[0]))))
    record = PhotoSteps.record

    def vanished(self: PhotoSteps, work: Work) -> None:
        work.task.source.unlink()
        record(self, work)

    monkeypatch.setattr(PhotoSteps, "record", vanished)
    ran = run(tmp_path / "p", "--in-place", "--backup", tmp_path / "kept", "--model", model)
    assert "2 restored, 0 skipped, 0 failed" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--copy-skipped", "--min-qf", 1)], ids=["restored", "copied"])
def test_an_output_that_is_edited_while_its_photo_is_looked_at_again_stays(
    run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...]
) -> None:
    photo, output = write(tmp_path / "p/a.jpg", jpeg(20)), tmp_path / "p-restored/a.jpg"
    run(photo.parent, "--model", model, *options)
    write(photo, jpeg(25))
    decode = PhotoSteps.decode

    def edited(self: PhotoSteps, opened: Opened) -> Sight:
        output.write_bytes(b"edited by hand")
        return decode(self, opened)

    monkeypatch.setattr(PhotoSteps, "decode", edited)
    run(photo.parent, "--model", model, *options)
    assert output.read_bytes() == b"edited by hand"


def test_a_dry_run_reads_no_giants_either(run, tmp_path: Path, model: Path) -> None:
    with write(tmp_path / "p/giant.jpg", jpeg(20)).open("r+b") as file:
        file.truncate(3_000_000)
    ran = run(tmp_path / "p", "--dry-run", "--max-megabytes", 1, "--model", model)
    assert "0 would be restored, 0 skipped, 1 failed" in ran.err
