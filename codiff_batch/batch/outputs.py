"""Puts outputs and backups in place, checking everything once more right before the rename.

Nothing here relies on what planning found: other programs may have changed it while the network worked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from codiff_batch.batch.marks import backups_around
from codiff_batch.errors import BackupUnfit, OutputExists, PhotoError, SourceChanged, SourceIsLink
from codiff_batch.files.atomic import TEMPORARY_PREFIX, make_durable, write_atomically
from codiff_batch.files.identity import key_of, same_file, shows
from codiff_batch.files.reading import Contents, digest_of, read_whole, sha256, stamp_of


@dataclass(frozen=True)
class Original:
    """The photo that an output is made from."""

    path: Path
    """The photo, which is replaced where work is done in place."""
    seen: Contents
    """What was read there when the work began."""
    data: bytes
    """The picture before any restoration: what was read, or its backup where what was read is our own output."""


def sweep(folders: Iterable[Path], owner: str) -> int:
    """Remove temporary files that a killed run left in these folders, and return how many.

    Args:
        folders: where outputs and backups go.
        owner: whose files to remove. The caller holds that owner's lock, so no other process writes them.
    """
    swept = 0
    for folder in folders:
        # Of a folder that may not be entered, the photos that belong there will tell.
        with contextlib.suppress(OSError):
            for leftover in folder.glob(f"{TEMPORARY_PREFIX}{owner}-*.tmp"):
                with contextlib.suppress(OSError):
                    leftover.unlink()
                    swept += 1
    return swept


def put_output(
    target: Path, data: bytes, original: Original, *, ours: frozenset[str], overwrite: bool, owner: str
) -> None:
    """Write an output beside its photo.

    Args:
        target: where.
        data: the output's bytes.
        original: what it was made from; it must still be what it was.
        ours: digests of what we wrote there earlier, which may be replaced.
        overwrite: replace whatever is there, unless it is a photo to be protected.
        owner: see :func:`write_atomically`.

    Raises:
        SourceChanged: the photo is not what it was.
        OutputExists: something is in the way.
        PhotoError: the file system refuses.
    """

    def check() -> None:
        _refuse_changed(original.path, original.seen)
        if os.path.lexists(target) and not may_replace(target, original.path, ours=ours, overwrite=overwrite):
            raise OutputExists(f"{target} already exists")

    def guard(temporary: Path) -> None:
        if shows(original.path.parent, temporary) and same_file(original.path.with_name(target.name), original.path):
            raise OutputExists(f"{target} is the photo itself; choose another folder")
        check()

    check()  # Here as well, so that nothing is written in vain, and a photo that is gone is not called a failed write.
    replaces = os.path.lexists(target)
    write_atomically(target, data, like=original.path, overwrite=replaces, owner=owner, guard=guard)


def may_replace(target: Path, source: Path, *, ours: frozenset[str], overwrite: bool) -> bool:
    """Return True if an output may replace an existing file: it is ours, or the user said so.

    Never the photo itself, and never what lies among originals.
    """
    if same_file(target, source) or backups_around(target.parent):
        return False
    if overwrite:
        return True
    return digest_of(target) in ours


def keep_backup(path: Path, data: bytes, *, like: Path, owner: str = "one") -> None:
    """Put an untouched original into the backup folder; an earlier backup is never replaced.

    Raises:
        BackupUnfit: another backup of that name exists, so the original may not be replaced.
        PhotoError: the backup cannot be written, or may not be on the disk yet.
    """
    try:
        write_atomically(path, data, like=like, owner=owner)
    except OutputExists:
        check_backup(path, sha256(data))
        # A killed run or a manual copy may have left it in the system's cache only.
        make_durable(path)


def check_backup(path: Path, digest: str, *, photo: Path | None = None) -> bytes:
    """Read a backup, and refuse one that would not bring the original back.

    Args:
        digest: of the original.
        photo: what is about to be replaced, which must be another file.

    Raises:
        BackupUnfit: it is a link, the photo itself, or has other bytes.
    """
    try:
        kept = read_whole(path, follow=False)
    except PhotoError as error:
        raise BackupUnfit(f"the backup {path}: {error}") from error
    if photo is not None and kept.key == key_of(photo):
        raise BackupUnfit(f"the backup {path} is the photo itself; choose another folder")
    if kept.sha256 != digest:
        raise BackupUnfit(f"the backup {path} is another picture, not this photo's original")
    return kept.data


def put_in_place(original: Original, data: bytes, backup: Path, *, record: Callable[[], None], owner: str) -> None:
    """Replace a photo by its restoration, once its original is safe.

    The order makes it safe: the photo is compared with what was read, its original is put into the backup folder and
    synced to disk, the journal records what is about to appear, and right before the rename backup and photo are
    checked again.

    Args:
        original: the photo.
        data: the new bytes.
        backup: where the original is kept.
        record: makes the intent durable.
        owner: see :func:`write_atomically`.

    Raises:
        SourceChanged: the photo is not what it was.
        SourceIsLink: it is a link, or has several names.
        BackupUnfit: the original is not safe.
        PhotoError: the file system refuses. In each case the photo is untouched.
    """
    _refuse_other_bytes(original.path, original.seen)
    keep_backup(backup, original.data, like=original.path, owner=owner)
    record()
    digest = sha256(original.data)

    def guard(temporary: Path) -> None:
        # Made beside the photo: where it is seen beside the backup as well, both are one file, by two mounts.
        if shows(backup.parent, temporary):
            raise BackupUnfit(f"the backup {backup} is the photo itself; choose another folder")
        check_backup(backup, digest, photo=original.path)
        refuse_links(original.path)
        _refuse_other_bytes(original.path, original.seen)

    write_atomically(original.path, data, like=original.path, overwrite=True, owner=owner, guard=guard)


def refuse_links(path: Path) -> None:
    """Refuse to work in place on a link: the other name, or the target, would keep the old picture.

    Raises:
        SourceIsLink: with the sentence.
    """
    try:
        found = path.lstat()
    except OSError as error:
        raise SourceChanged(f"cannot be read: {error.strerror or error}") from error
    if path.is_symlink():
        raise SourceIsLink("is a symbolic link, which work in place would turn into a file; name its target instead")
    if found.st_nlink > 1:
        raise SourceIsLink("has several names (hard links), which work in place would tear apart")


def _refuse_other_bytes(path: Path, seen: Contents) -> None:
    """Read a photo again: programs can set its times back, and some disks keep them to two seconds.

    Raises:
        SourceChanged: it has other bytes.
    """
    try:
        found = read_whole(path)
    except PhotoError as error:
        raise SourceChanged(str(error)) from error
    if found.sha256 != seen.sha256:
        raise SourceChanged("changed while it was worked on; run again")


def _refuse_changed(path: Path, seen: Contents) -> None:
    """Refuse a photo that is not what it was; where only its stamp differs, its bytes decide."""
    try:
        now = stamp_of(path)
    except PhotoError as error:
        raise SourceChanged(str(error)) from error
    if now != seen.stamp:
        _refuse_other_bytes(path, seen)
