"""What a power cut leaves: everything that was not synced is lost, and still no original is.

``kill -9`` cannot show a missing fsync, because the system keeps what a dead program wrote. So the real program's
system calls are recorded, and replayed on a disk of the test's own that forgets what was not synced: file contents
count from their file's fsync on, names from their folder's. At each call the power is cut, and what is left is looked
at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.batch.test_crash import Setting, pytestmark  # noqa: F401  the same conditions
from tests.tiny_model import make_tiny_model

_CALL = re.compile(r"^\d+\s+(\w+)\((.*)\)\s+= (-?\d+)(?:<(.*?)>)?")
_FD, _NAME = re.compile(r"^(\d+)<(.*?)>"), re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass
class Disk:
    """Files by number. What programs see, and of it what the disk has for sure."""

    names: dict[str, int] = field(default_factory=dict)
    contents: dict[int, list[str]] = field(default_factory=dict)
    sure_names: dict[str, int] = field(default_factory=dict)
    sure_contents: dict[int, list[str]] = field(default_factory=dict)

    def make(self, path: str, *written: str) -> None:
        """A file or folder that was there before."""
        number = len(self.contents)
        self.names[path] = self.sure_names[path] = number
        self.contents[number] = list(written)
        self.sure_contents[number] = list(written)

    def apply(self, call: str, arguments: str, result: int, opened: str | None) -> None:
        """Do what a system call did."""
        if result < 0:
            return
        names = _NAME.findall(arguments)
        if call == "openat" and "O_CREAT" in arguments and opened and opened not in self.names:
            self._new(opened)
        elif call == "mkdir":
            self._new(names[0])
        elif call in ("write", "pwrite64"):
            if (number := self._opened(arguments)) is not None:
                self.contents[number].append(arguments)
        elif call in ("fsync", "fdatasync"):
            self._sync(arguments)
        elif call in ("link", "linkat", "rename", "renameat", "renameat2"):
            before, after = names[0], names[-1]
            self.names[after] = self.names[before]
            if call.startswith("rename"):
                del self.names[before]
        elif call in ("unlink", "unlinkat"):
            self.names.pop(names[0], None)

    def _new(self, path: str) -> None:
        number = len(self.contents)
        self.names[path], self.contents[number] = number, []

    def _opened(self, arguments: str) -> int | None:
        match = _FD.match(arguments)
        return self.names.get(match.group(2)) if match else None

    def _sync(self, arguments: str) -> None:
        match = _FD.match(arguments)
        if match is None:
            return
        path = match.group(2)
        if (number := self.names.get(path)) is not None:
            self.sure_contents[number] = list(self.contents[number])
        # A folder's fsync keeps what is named in it, if it is a folder.
        for name in {*self.names, *self.sure_names}:
            if str(Path(name).parent) == path:
                if name in self.names:
                    self.sure_names[name] = self.names[name]
                else:
                    self.sure_names.pop(name, None)

    def worst(self, path: str) -> list[int | None]:
        """The files that may stand at a name after a power cut: the last one for sure, or any later one."""
        return [self.sure_names.get(path), self.names.get(path)]

    def is_whole(self, number: int | None) -> bool:
        """Return True if all that was written into a file is on the disk."""
        return number is not None and self.sure_contents.get(number) == self.contents[number]

    def is_reachable(self, path: str) -> bool:
        """Return True if a name and all folders above it that the program made are on the disk."""
        made = [name for name in self.names if path == name or path.startswith(f"{name}/")]
        return path in self.sure_names and all(name in self.sure_names for name in made)


def replay(log: str, disk: Disk) -> Iterator[Disk]:
    """The disk after each call of a trace."""
    for line in log.splitlines():
        if match := _CALL.match(line):
            disk.apply(match.group(1), match.group(2), int(match.group(3)), match.group(4))
            yield disk


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Setting, str]:
    """One photo rewritten in place by the real program, and its system calls."""
    folder = tmp_path_factory.mktemp("power").resolve()
    model = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    setting = Setting(folder)
    assert setting.run_under_strace(model, "-y", "-s", "64", log=folder / "log") == 0
    return setting, (folder / "log").read_text()


def at_every_cut(recorded: tuple[Setting, str]) -> list[str]:
    """What is wrong after a power cut at some call of the commit; nothing, if all is well."""
    setting, log = recorded
    photo, backup = str(setting.photo), str(setting.backup / "a.jpg")
    journal = f"{setting.backup}/.codiff-batch/journal-all.sqlite-wal"
    disk = Disk()
    for folder in (*reversed(setting.photos.parents), setting.photos):
        disk.make(str(folder))
    disk.make(photo, "original")
    disk.make(journal)
    original = disk.names[photo]
    wrong: list[str] = []
    replaced = False
    for number, now in enumerate(replay(log, disk)):
        for found in now.worst(photo):
            if found is None or not now.is_whole(found):
                wrong.append(f"call {number}: the photo is torn or gone")
            elif found != original:
                if not (now.is_reachable(backup) and now.is_whole(now.sure_names[backup])):
                    wrong.append(f"call {number}: a new photo, and no backup for sure")
                # What the journal is told afterwards may be lost: the intent tells the same.
                if not replaced and not now.is_whole(now.names[journal]):
                    wrong.append(f"call {number}: a new photo that the journal does not know for sure")
                replaced = True
    if disk.sure_names[photo] == original:
        wrong.append("the new photo is not on the disk when the program has ended")
    return wrong


def test_a_power_cut_at_any_call_loses_nothing(recorded: tuple[Setting, str]) -> None:
    assert at_every_cut(recorded) == []


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        (r"fsync\(\d+<[^>]*\.tmp>", "torn"),
        (r"fsync\(\d+<[^>]*/kept>", "no backup"),
        (r"f(data)?sync\(\d+<[^>]*-wal>", "journal"),
        (r"fsync\(\d+<[^>]*/photos>", "when the program has ended"),
    ],
    ids=["files", "the backup's folder", "the journal", "the photo's folder"],
)
def test_the_replay_notices_every_sync_that_is_left_out(
    recorded: tuple[Setting, str], left_out: str, expected: str
) -> None:
    setting, log = recorded
    without = "\n".join(line for line in log.splitlines() if not re.search(left_out, line))
    assert without != log.rstrip("\n")
    assert any(expected in wrong for wrong in at_every_cut((setting, without)))
