"""A model's folder appears whole or not at all, even when it replaces another one and the program is killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codiff_batch.errors import CannotInstall, Role
from codiff_batch.models.card import CARD_NAME

_OURS, _NEW, _OLD = ".codiff-batch-", ".new", ".old"
_UNDER_WAY = re.compile(
    rf"{re.escape(_OURS)}(?P<name>.+)-[a-z0-9_]{{8}}({re.escape(_NEW)}|(?P<aside>{re.escape(_OLD)}))"
)
"""A model that is being installed, or one that was set aside while another one took its name: nothing that a user would
call a folder, since what is left of the former is removed."""


@contextmanager
def appearing(folder: Path, *, replace: bool = True) -> Iterator[Path]:
    """A temporary folder that is renamed to ``folder`` at the end and removed after an error.

    Args:
        replace: whether it may take the place of another.

    Raises:
        CannotInstall: the file system refuses, or there is one that may not be replaced.
    """
    from filelock import FileLock  # imported here because every start of the program reads this file

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock_of(folder)):
            # Left by a killed import; no other process works here while we hold the lock.
            _put_back(folder)
            if not replace:
                refuse_to_replace(folder)
            for left, _ in _under_way(folder.parent, folder.name):
                shutil.rmtree(left, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(_NEW, f"{_OURS}{folder.name}-", folder.parent))
            try:
                yield partial
                partial.chmod(0o755)
                _sync(partial)
                _take_place(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise CannotInstall(f"{folder} cannot be written: {error.strerror or error}") from error


def refuse_to_replace(folder: Path) -> None:
    """Refuse a name that is taken.

    Raises:
        CannotInstall: something is there.
    """
    if os.path.lexists(folder):
        raise CannotInstall(f"{folder} already exists", Role.MODEL_NAME, Role.REPLACE_MODEL)


def put_back(root: Path) -> None:
    """Rename models that a killed import had set aside back; do nothing while an import is running."""
    with contextlib.suppress(OSError):
        names = {found["name"] for _, found in _under_way(root) if found["aside"]}
        for folder in (root / name for name in names):
            from filelock import FileLock, Timeout

            with contextlib.suppress(Timeout), FileLock(lock_of(folder), blocking=False):
                _put_back(folder)


def _put_back(folder: Path) -> None:
    for path, found in _under_way(folder.parent, folder.name):
        if found["aside"] and (path / CARD_NAME).is_file() and not os.path.lexists(folder):
            path.replace(folder)


def _under_way(root: Path, name: str | None = None) -> list[tuple[Path, re.Match[str]]]:
    """What imports have under way or left in a folder, of one model or of all.

    Never by the beginning of a name: one model's may be that of another, which somebody else installs now.
    """
    found = [(path, match) for path in root.iterdir() if (match := _UNDER_WAY.fullmatch(path.name))]
    return [(path, match) for path, match in found if name in (None, match["name"])]


def _take_place(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.replace(folder)
    elif not _exchange(partial, folder):
        aside = partial.with_suffix(_OLD)
        folder.replace(aside)
        partial.replace(folder)  # If killed before this, the next listing of the models puts the old one back.
        shutil.rmtree(aside, ignore_errors=True)
    _sync_folder(folder.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap the names of two folders in one step, where the system can (Linux, ``renameat2``)."""
    if sys.platform != "linux":
        return False
    at_cwd, exchange = -100, 2
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0)


def _sync(folder: Path) -> None:
    """Flush files to disk before they get their name."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows cannot open folders.
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def lock_of(folder: Path) -> Path:
    """The lock of whoever writes a folder."""
    return folder.parent / f".{folder.name}.lock"
