"""Writes files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from codiff_batch.errors import OutputExists, PhotoError

TEMPORARY_PREFIX = ".codiff-batch-"
"""Hidden, so that a scan passes over what a killed run left; without the photo's name, which may be long already."""


def sweep(folders: Iterable[Path], owner: str) -> int:
    """Remove temporary files that a killed run left in these folders, and tell how many.

    Args:
        folders: where outputs and backups go.
        owner: whose files to remove. The caller holds that owner's lock, so nobody is writing them.
    """
    swept = 0
    for folder in folders:
        for leftover in folder.glob(f"{TEMPORARY_PREFIX}{owner}-*.tmp"):
            with contextlib.suppress(OSError):
                leftover.unlink()
                swept += 1
    return swept


def write_atomically(
    path: Path, data: bytes, *, like: Path | None = None, overwrite: bool = False, owner: str = "one"
) -> None:
    """Write a file by way of a temporary one in the same folder: write, fsync, rename, fsync the folder.

    Args:
        path: the final name; its folder is made if need be.
        like: a file whose times, mode and extended attributes the new one gets.
        overwrite: replace an existing file; else it is left untouched.
        owner: goes into the temporary file's name, for :func:`sweep`.

    Raises:
        OutputExists: the file exists and may not be overwritten.
        PhotoError: the file system refuses (full, read-only, no permission); nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY_PREFIX}{owner}-", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise PhotoError(f"cannot write {path}: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if like is not None:
                shutil.copystat(like, temporary)
            else:
                temporary.chmod(0o666 & ~_umask())
            os.fsync(file.fileno())
        _put_in_place(temporary, path, overwrite)
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise OutputExists(f"{path} exists already (see --overwrite)") from error
    except OSError as error:
        raise PhotoError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def keep_backup(path: Path, data: bytes, *, like: Path, owner: str = "one") -> None:
    """Put an untouched original into the backup folder; an earlier backup is never replaced.

    Raises:
        OutputExists: another backup of that name exists, so the original may not be replaced.
        PhotoError: the backup cannot be written.
    """
    try:
        write_atomically(path, data, like=like, owner=owner)
    except OutputExists:
        if path.read_bytes() != data:
            raise OutputExists(f"the backup {path} exists and is another picture; choose another folder") from None


def _put_in_place(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        # A hard link fails if the name is taken, where a rename would replace what is there.
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # File systems without hard links, such as FAT.
        if path.exists():
            raise FileExistsError(path) from None
        temporary.rename(path)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the platform can."""
    if os.name != "posix":
        return
    # Some network file systems refuse. The file itself is synced and stands at its name, so this is no failure.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
