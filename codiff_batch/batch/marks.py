"""Output and backup folders are marked, so that an empty mount point is not mistaken for the disk that belongs there.

The mark is a small file beside the journal. Which folders had one is remembered in the user's state directory
(``~/.local/state/codiff-batch`` on Linux); where that cannot be written, only the mark itself counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from platformdirs import user_state_path

from codiff_batch.batch.journal import holds_backups, journals_in
from codiff_batch.errors import FolderUnavailable, OptionsConflict, PhotoError, Role
from codiff_batch.files.atomic import write_atomically
from codiff_batch.files.identity import MARK_FOLDER, folders_above, mount_of, real
from codiff_batch.models.plain import read_json

MARK = "mark.json"


class Holds(StrEnum):
    """What a marked folder is for."""

    OUTPUTS = "outputs"
    BACKUPS = "backups"


@dataclass(frozen=True)
class Mark:
    """Distinguishes a folder of ours from any other."""

    id: str
    holds: Holds


@dataclass(frozen=True)
class _Disk:
    """Where a marked folder was."""

    mount: Path
    number: int
    """See :func:`_number_of`."""


def read_mark(folder: Path) -> Mark | None:
    """The mark of a folder; None if it has none.

    Raises:
        JournalDamaged: the folder has a journal of version 0.1, which kept no marks, and it cannot be read.
    """
    # Whoever may put photos into a folder may put anything there under this name: a pipe, a device, a bomb.
    with contextlib.suppress(ValueError):
        return read_json(folder / MARK_FOLDER / MARK, Mark)
    # Version 0.1 kept journals without a mark.
    if not (journals := journals_in(folder)):
        return None
    return Mark("", Holds.BACKUPS if any(map(holds_backups, journals)) else Holds.OUTPUTS)


def is_marked(folder: Path) -> bool:
    """Return True if a folder holds outputs or backups of an earlier run, as far as names tell."""
    return os.path.lexists(folder / MARK_FOLDER)


def backups_around(path: Path) -> Path | None:
    """The backup folder that a path lies in or is itself, links followed; None if there is none."""
    for folder in _around(path):
        if is_marked(folder) and (mark := read_mark(folder)) and mark.holds is Holds.BACKUPS:
            return folder
    return None


def check_present(folder: Path, *, new: bool) -> None:
    """Refuse a folder that was marked when it was last used and no longer is: its disk is probably not mounted.

    A folder that was deleted is created again if its disk is still there, but not if another disk is in its place.

    Args:
        new: the user said that it may be empty.

    Raises:
        FolderUnavailable: with that reason.
    """
    if new or read_mark(folder) is not None or (known := _recall(folder)) is None:
        return
    deleted = not folder.is_dir() and _is_there(known) and not _is_bare(folder.parent)
    if not deleted:
        raise FolderUnavailable(
            f"{folder} held files of earlier runs, and they are gone; is its disk mounted? "
            "To start with an empty folder, say so",
            Role.NEW_FOLDER,
        )


def claim(folder: Path, holds: Holds) -> Mark:
    """Mark a folder that is about to be used, and remember it.

    Raises:
        OptionsConflict: it holds something else of ours.
        FolderUnavailable: it cannot be written to, or its journal is damaged.
    """
    mark = read_mark(folder)
    if mark is not None and mark.holds is not holds:
        raise OptionsConflict(f"{folder} holds {mark.holds} of earlier runs; choose another folder for {holds}")
    if mark is None or not mark.id:
        mark = Mark(secrets.token_hex(8), holds)
        text = json.dumps({"id": mark.id, "holds": mark.holds})
        try:
            write_atomically(folder / MARK_FOLDER / MARK, text.encode(), overwrite=True)
        except PhotoError as error:
            raise FolderUnavailable(str(error)) from error
    _remember(folder)
    return mark


@contextlib.contextmanager
def tried(folder: Path) -> Iterator[None]:
    """Leave no mark in a folder that turns out to be none to write to.

    Around the lock: network file systems keep a file that is open, and with it the folder that the mark is in.
    """
    new = not is_marked(folder)
    try:
        yield
    except OptionsConflict:
        if new:
            shutil.rmtree(folder / MARK_FOLDER, ignore_errors=True)
            with contextlib.suppress(OSError):
                _record(folder).unlink()
        raise


def _around(path: Path) -> Iterator[Path]:
    if os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises where a folder on the way may not be entered.
        yield real(path)
    yield from folders_above(path)


def _is_bare(folder: Path) -> bool:
    """A mount point without its disk is an empty folder."""
    return folder.is_dir() and not any(folder.iterdir())


def _record(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(real(folder))).hexdigest()[:24]
    return user_state_path("codiff-batch") / "folders" / f"{name}.json"


def _remember(folder: Path) -> None:
    mount = mount_of(folder)
    known = {"folder": os.fsdecode(real(folder)), "mount": os.fsdecode(mount), "disk": _number_of(mount)}
    text = json.dumps(known)
    record = _record(folder)
    with contextlib.suppress(OSError, ValueError):
        if record.read_text() == text:
            return
    with contextlib.suppress(PhotoError, OSError):
        write_atomically(record, text.encode(), overwrite=True)


def _recall(folder: Path) -> _Disk | None:
    """The disk that a folder was on when it was marked; None if it never was."""
    try:
        told = json.loads(_record(folder).read_text())
        return _Disk(Path(told["mount"]), told["disk"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_there(disk: _Disk) -> bool:
    """Return True if a disk is mounted where it was, as far as the system tells one from another."""
    return os.path.ismount(disk.mount) and disk.number == _number_of(disk.mount)


def _number_of(mount: Path) -> int:
    """Distinguishes disks that are mounted at the same place one after the other."""
    return os.statvfs(mount).f_fsid if hasattr(os, "statvfs") else mount.stat().st_dev
