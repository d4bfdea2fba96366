"""Death and refusal at every file system call of the commit step: the old bytes or the new ones, never else.

strace attaches to the real program just before it commits, and kills it, or lets a call fail, at the Nth call.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from codiff_batch.batch.journal import journals_in
from codiff_batch.jpeg import JpegPhoto
from tests import warm
from tests.faults.commit import commit
from tests.photos import jpeg, write
from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]
CALLS = (
    "openat,write,pwrite64,fsync,fdatasync,ftruncate,link,linkat,rename,renameat,renameat2,"
    "unlink,unlinkat,mkdir,chmod,fchmod,fchmodat,utimensat,setxattr,close"
)


def strace_works() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not strace_works(), reason="strace is not installed or may not trace"),
]


class Setting:
    """A folder with one photo, a backup folder, and a model."""

    def __init__(self, folder: Path) -> None:
        self.photos, self.backup = folder / "photos", folder / "kept"
        self.original = jpeg(20)
        self.photo = write(self.photos / "a.jpg", self.original)

    def run_under_strace(self, model: Path, *options: str, log: Path) -> int:
        command = [*warm.program("tests.faults.commit"), str(self.photos), str(self.backup), str(model)]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as program:
            assert program.stdout is not None
            assert program.stdin is not None
            ready = int(program.stdout.readline())
            tracer = ["strace", "-f", "-p", str(ready), "-o", str(log), "-e", f"trace={CALLS}", *options]
            with subprocess.Popen(tracer, stderr=subprocess.PIPE, text=True) as strace:
                assert strace.stderr is not None
                assert "attached" in strace.stderr.readline()
                program.stdin.write("go\n")
                program.stdin.flush()
                program.wait()
        return program.returncode

    def check_nothing_is_lost(self) -> None:
        """The photo is the old one, or a whole new one whose original is safe."""
        data = self.photo.read_bytes()
        if data == self.original:
            return
        assert JpegPhoto.from_bytes(data).metadata().restored_by
        assert (self.backup / "a.jpg").read_bytes() == self.original

    def check_the_next_run_finishes(self, model: Path) -> None:
        work = commit(self.photos, self.backup, model)
        assert work.outcome is not None
        assert work.outcome.outcome in ("restored", "skipped")
        assert (self.backup / "a.jpg").read_bytes() == self.original
        assert JpegPhoto.open(self.photo).metadata().restored_by
        assert not list(self.photos.parent.rglob("*.tmp"))
        from codiff_batch.batch.undo import undo

        (outcome,) = undo(self.backup)
        assert outcome.outcome == "put back"
        assert self.photo.read_bytes() == self.original


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Counter[str]:
    """How often the commit step makes each call."""
    folder = tmp_path_factory.mktemp("count")
    assert Setting(folder).run_under_strace(model, log=folder / "log") == 0
    found = re.findall(r"^\d+\s+(\w+)\(", (folder / "log").read_text(), re.MULTILINE)
    return Counter(found)


@pytest.mark.slow(seconds=30)
def test_killed_at_every_call(calls: Counter[str], model: Path, tmp_path: Path) -> None:
    assert {"link", "linkat", "rename"} & set(calls)
    assert "fsync" in calls
    killed = 0
    for name, count in calls.items():
        for number in range(1, count + 1) if name != "close" else ():
            folder = tmp_path / f"{name}-{number}"
            setting = Setting(folder)
            code = setting.run_under_strace(
                model, "-e", f"inject={name}:signal=SIGKILL:when={number}", log=folder / "log"
            )
            killed += code == -9
            setting.check_nothing_is_lost()
            setting.check_the_next_run_finishes(model)
    assert killed >= 15


@pytest.mark.parametrize(
    ("name", "error"),
    [("write", "ENOSPC"), ("fsync", "EIO"), ("rename", "EACCES"), ("link", "EMLINK"), ("openat", "EROFS")],
)
def test_every_call_refused(calls: Counter[str], model: Path, tmp_path: Path, name: str, error: str) -> None:
    for number in range(1, calls[name] + 1):
        folder = tmp_path / f"{name}-{number}"
        setting = Setting(folder)
        setting.run_under_strace(model, "-e", f"inject={name}:error={error}:when={number}", log=folder / "log")
        setting.check_nothing_is_lost()
        setting.check_the_next_run_finishes(model)


def test_the_journal_is_whole_after_any_death(calls: Counter[str], model: Path, tmp_path: Path) -> None:
    import sqlite3

    for number in range(1, calls["pwrite64"] + 1):
        folder = tmp_path / str(number)
        setting = Setting(folder)
        setting.run_under_strace(model, "-e", f"inject=pwrite64:signal=SIGKILL:when={number}", log=folder / "log")
        for path in journals_in(setting.backup):
            assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
