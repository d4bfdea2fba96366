"""Writes files that appear whole or not at all, and are on the disk when the call returns."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from codiff_batch.errors import OutputExists, PhotoError
from codiff_batch.files.audience import restrict
from codiff_batch.files.reading import read_whole

log = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".codiff-batch-"
"""Hidden, so that a scan ignores what a killed run left; without the photo's name, which may already be long."""

_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP})
"""How a file system says that folders need no fsync; any other error means that a name may not be on the disk."""

_said: set[str] = set()


def write_atomically(
    path: Path,
    data: bytes,
    *,
    like: Path | None = None,
    shown: Iterable[Path] = (),
    overwrite: bool = False,
    owner: str = "one",
    guard: Callable[[Path], None] = lambda temporary: None,
) -> None:
    """Write a file by way of a temporary one in the same folder: write, fsync, rename, fsync the folder.

    Args:
        path: the final name; its folder is created if needed.
        like: a file whose times, permissions and ``user.*`` attributes the new one gets, as far as the file system
            takes them; folders that are made get the modes of the folders it lies in.
        shown: without ``like``: files that the new one shows or names; only who may read those may read it.
        overwrite: replace an existing file; else it is left untouched.
        owner: goes into the temporary file's name, so that leftovers of a killed run can be told apart.
        guard: called with the temporary file when only the rename is left; what it raises stops the write.

    Raises:
        OutputExists: the file exists and may not be overwritten.
        PhotoError: the file system refuses (full, read-only, no permission); nothing is left behind.
    """
    try:
        make_folders(path.parent, like=None if like is None else like.parent)
        handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY_PREFIX}{owner}-", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise PhotoError(f"cannot write {path}: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            # By descriptor: in another user's folder, the name may lead to another file by now.
            _resemble(handle, like, shown)
            os.fsync(handle)
            guard(temporary)
            _put_in_place(temporary, path, overwrite)
            _check_own(handle, path, data)
        sync_folder(path.parent)
    except FileExistsError as error:
        raise OutputExists(f"{path} already exists") from error
    except OSError as error:
        raise PhotoError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def make_folders(folder: Path, *, like: Path | None = None) -> None:
    """Make a folder and those above it, each synced to disk before anything is put into it.

    Args:
        like: a folder whose permissions the new one gets, and so on upwards for as long as the names agree.

    Raises:
        OSError: the file system refuses.
    """
    if folder.is_dir():
        return
    above = like.parent if like is not None and like.name == folder.name else None
    make_folders(folder.parent, like=above)
    try:
        folder.mkdir()
    except FileExistsError:
        return  # Another process was faster. If it is not a folder, putting something into it fails.
    if like is not None:
        with contextlib.suppress(OSError):
            # The user must be able to write to folders that the program made.
            folder.chmod(stat.S_IMODE(like.stat().st_mode) & 0o777 | 0o700)
    sync_folder(folder.parent)


def make_durable(path: Path) -> None:
    """Make a file durable that another program or an earlier run wrote, and its name too.

    Raises:
        PhotoError: the disk did not take it.
    """
    if os.name != "posix":
        return
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        raise PhotoError(f"cannot make {path} durable: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable, if the platform and the file system can.

    Raises:
        OSError: the disk did not take them.
    """
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(handle)


def _resemble(handle: int, like: Path | None, shown: Iterable[Path]) -> None:
    """Give a new file the attributes of another one. A network share, a FAT disk or a lack of space may prevent it."""
    if like is None:
        _attempt("the usual permissions", lambda: restrict(handle, shown))
        return
    found = like.stat()
    _attempt("extended attributes", lambda: _copy_attributes(like, handle))
    # No set-user-id or other special bits: this program wrote the new file.
    _attempt("permissions", lambda: _chmod(handle, stat.S_IMODE(found.st_mode) & 0o777))
    times = found.st_atime_ns, found.st_mtime_ns
    _attempt("times", lambda: os.utime(handle, ns=times))


def _chmod(handle: int, mode: int) -> None:
    if hasattr(os, "fchmod"):
        os.fchmod(handle, mode)


def _copy_attributes(like: Path, handle: int) -> None:
    """Copy what users and programs stored; ``security.*`` and ``system.*`` are access rights."""
    if not hasattr(os, "listxattr"):
        return
    refused: OSError | None = None
    for name in os.listxattr(like):
        if name.startswith("user."):
            try:
                os.setxattr(handle, name, os.getxattr(like, name))
            except OSError as error:
                refused = error
    if refused is not None:
        raise refused


def _attempt(what: str, step: Callable[[], None]) -> None:
    """Take a step that a file system may refuse without harm, and warn about it once."""
    try:
        step()
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.ENOTSUP and what == "extended attributes":
            return
        if what not in _said:
            _said.add(what)
            log.warning("%s cannot be kept on all outputs: %s", what, getattr(error, "strerror", None) or error)


def _put_in_place(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        # A hard link fails if the name is taken, where a rename would replace what is there.
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # File systems without hard links, such as FAT.
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        temporary.rename(path)


def _check_own(handle: int, path: Path, data: bytes) -> None:
    """Refuse to report a file as written if another program replaced it meanwhile."""
    ours, found = os.fstat(handle), path.lstat()
    if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
        return
    # Some network file systems give the renamed file another number; then its bytes decide.
    if read_whole(path, follow=False).data != data:
        raise PhotoError(f"cannot write {path}: another program replaced the file while it was written")
