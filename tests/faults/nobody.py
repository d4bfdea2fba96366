"""Being somebody else for a while, so that permissions mean something to tests that run as root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534

CLONE = Path(__file__).resolve().parents[2]

needs_permissions = pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's here")

needs_open_clone = pytest.mark.skipif(
    os.name == "posix" and os.geteuid() == 0 and not all(folder.stat().st_mode & 0o001 for folder in CLONE.parents),
    reason="this clone lies in a folder that is closed to others, such as /root, so nobody else can run its code",
)


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A temporary folder that nobody may enter and write to, which pytest's own are not for root."""
    folder = Path(tempfile.mkdtemp(prefix="codiff-nobody-", dir="/var/tmp"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o777)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, where we have them."""
    root = os.geteuid() == 0
    if root:
        _become(NOBODY)
    try:
        yield
    finally:
        if root:
            _become(0)


def _become(user: int) -> None:
    """Also the real user where that can be undone, for ``os.access`` goes by that one."""
    if hasattr(os, "setresuid"):
        os.setresuid(user, user, 0)
    else:
        os.seteuid(user)
