"""Puts back the originals of photos that were restored in place, from their backup.

The journal of a backup folder says what to put where, but anyone who can write to the folder can write to the journal.
So only files that this program wrote are replaced: the photo must have the digest that the journal gives, carry our
note, and lie in a folder that photos were taken from.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from codiff_batch.batch.journal import Journal, journals_in, owner_of
from codiff_batch.batch.journals import locked
from codiff_batch.batch.ledger import find_folder, read_ledger
from codiff_batch.batch.outcome import Code, Kind, Outcome, code_of
from codiff_batch.batch.outputs import check_backup, sweep
from codiff_batch.batch.rows import Attempt, Made, Standing
from codiff_batch.batch.scan import SUFFIXES
from codiff_batch.errors import (
    FolderUnavailable,
    JournalDamaged,
    JournalNewer,
    OptionsConflict,
    PhotoError,
    SourceChanged,
)
from codiff_batch.files.atomic import write_atomically
from codiff_batch.files.identity import MARK_FOLDER, Stamp, canonical, real
from codiff_batch.files.reading import Contents, read_whole, stamp_of
from codiff_batch.jpeg import JpegPhoto

log = logging.getLogger(__name__)

_OWNER = "undo"
"""Of temporary files; the next undo removes those of one that was killed."""


def undo(folder: Path, patterns: Sequence[str] = (), *, dry_run: bool = False) -> Iterator[Outcome]:
    """Undo the rewrites that the journals of a backup folder know of, and yield the outcome of each photo.

    A photo that was changed since is left alone, and so is one whose backup is no longer the original. A photo that was
    deleted comes back. Backups stay where they are.

    Args:
        folder: the backup folder.
        patterns: of the photos' paths below it, such as ``holiday/*.jpg``; a folder's name stands for all in it.
        dry_run: say what would be done, and do nothing.

    Raises:
        FolderLocked: a run is using the folder.
        FolderUnavailable: the folder has no journal, or it cannot be read.
        OptionsConflict: nothing was rewritten from here, or no photo matches.
    """
    root = find_folder(folder)
    with _Books(root, write=not dry_run) as books:
        ledger = read_ledger(root)
        rows = [row for row in ledger.standing.values() if row.in_place]
        if not rows and ledger.standing:
            raise OptionsConflict(f"{root} holds outputs; the photos they were made from were never changed")
        if patterns:
            rows = [row for row in rows if _matches(row, patterns)]
            if not rows:
                raise OptionsConflict(f"no photo that was restored in place matches {' '.join(patterns)}")
        if not dry_run:
            sweep({row.source.parent for row in rows}, _OWNER)
        for row in rows:
            yield _put_back(row, root, ledger.roots, books, dry_run=dry_run)


class _Books:
    """The journals of a folder, locked and open for writing; none of them if the folder is read-only."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        self._folder = folder
        self._write = write and os.access(folder / MARK_FOLDER, os.W_OK)
        self._journals: list[Journal] = []
        self._exit = contextlib.ExitStack()
        self._said = False

    def __enter__(self) -> _Books:
        with self._exit:
            for path in journals_in(self._folder) if self._write else ():
                self._exit.enter_context(locked(self._folder, owner_of(path)))
                try:
                    self._journals.append(journal := Journal(path))
                except (JournalDamaged, JournalNewer):
                    raise
                except FolderUnavailable as error:
                    log.warning("what is put back cannot be noted: %s", error)  # The disk is full, say.
                    continue
                self._exit.callback(journal.close)
            self._exit = self._exit.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    def note(self, row: Standing, outcome: Outcome) -> None:
        """Note that nothing stands there any more; if that fails, the next undo finds the original by its bytes."""
        try:
            for journal in self._journals:
                if journal.standing(row.place) is not None:
                    journal.forget(row.place)
                    attempt = Attempt(row.place, row.source, _stamp(row.source), row.original, "", _made(row), outcome)
                    journal.record(attempt)
        except FolderUnavailable as error:
            if not self._said:
                log.warning("what was put back cannot be noted: %s", error)
                self._said = True


def _put_back(row: Standing, root: Path, roots: dict[Path, Path], books: _Books, *, dry_run: bool) -> Outcome:
    photo = row.source
    try:
        backup = _backup_of(row, root)
        photo, found = _find(row, root, roots)
        # A killed run may or may not have put its file in place.
        original = row.original if found is None else row.settled(found.sha256).original
        if found is not None and found.sha256 == row.original:
            outcome = Outcome(photo, photo, Kind.SKIPPED, "is already the original", Code.ORIGINAL_ALREADY)
        elif dry_run:
            check_backup(backup, original)
            reason = f"would be put back from {backup}"
            return Outcome(photo, photo, Kind.WOULD_BE_PUT_BACK, reason, Code.FROM_BACKUP)
        else:
            _replace(photo, found, backup, original)
            outcome = Outcome(photo, photo, Kind.PUT_BACK, f"put back from {backup}", Code.FROM_BACKUP)
    except PhotoError as error:
        return Outcome(photo, None, Kind.FAILED, str(error), code_of(error))
    except OSError as error:
        return Outcome(photo, None, Kind.FAILED, f"cannot be put back: {error.strerror or error}", code_of(error))
    books.note(row, outcome)
    return outcome


def _replace(photo: Path, found: Contents | None, backup: Path, original: str) -> None:
    data = check_backup(backup, original, photo=photo)

    def guard(temporary: Path) -> None:
        if found is not None and stamp_of(photo, follow=False) != found.stamp:
            raise SourceChanged("is being changed by another program, and is left alone")

    write_atomically(photo, data, like=backup, overwrite=found is not None, owner=_OWNER, guard=guard)


def _find(row: Standing, root: Path, roots: dict[Path, Path]) -> tuple[Path, Contents | None]:
    """Where a photo lies, and what is there now; nothing where it was deleted.

    Raises:
        SourceChanged: it is not ours to replace.
    """
    places = [row.source]
    if row.source_below is not None:
        # The disk with both may be mounted elsewhere now, or both were copied and this is the copy.
        places.insert(0, Path(os.path.normpath(real(root) / row.source_below)))
    there = [(photo, read_whole(photo, follow=False)) for photo in dict.fromkeys(places) if os.path.lexists(photo)]
    for photo, found in there:
        if found.sha256 in row.digests and _carries_note(found.data):
            _refuse_outside(row.source, roots)
            return photo, found
    for photo, found in there:
        if found.sha256 == row.original:
            return photo, found
    if there:
        raise SourceChanged("was changed since it was restored, and is left alone")
    _refuse_outside(row.source, roots)
    if row.source.suffix.lower() not in SUFFIXES or not (roots or row.source.parent.is_dir()):
        raise SourceChanged(f"no longer exists; its original is {root / row.place}")
    # It was deleted, or its disk is not mounted, or is mounted elsewhere and the photo was deleted there.
    photo = min(places, key=lambda place: sum(not folder.is_dir() for folder in place.parents))
    away = [mount for mount in _mounts(row.source, roots) if not os.path.ismount(mount)]
    if away and photo == row.source:
        raise SourceChanged(f"is not there, and the disk that it was on is not mounted at {away[0]}")
    return photo, None


def _refuse_outside(photo: Path, roots: dict[Path, Path]) -> None:
    """Refuse a place that no run took photos from. Journals of version 0.1 did not note where those were."""
    if roots and not _mounts(photo, roots):
        raise SourceChanged("is not in any folder that photos were taken from, and is left alone")


def _mounts(photo: Path, roots: dict[Path, Path]) -> list[Path]:
    """Where the disks of the folders that a photo lies in were mounted."""
    inside = canonical(photo)
    return [mount for root, mount in roots.items() if inside.is_relative_to(real(root))]


def _backup_of(row: Standing, root: Path) -> Path:
    backup = root / row.place
    if row.place.is_absolute() or not canonical(backup).is_relative_to(real(root)):
        raise SourceChanged(f"its backup {row.place} lies outside of {root}")
    return backup


def _carries_note(data: bytes) -> bool:
    try:
        return bool(JpegPhoto.from_bytes(data).metadata().restored_by)
    except PhotoError:
        return False


def _matches(row: Standing, patterns: Sequence[str]) -> bool:
    names = (str(row.place), str(row.source))
    return any(fnmatch(name, pattern) or Path(name).is_relative_to(pattern) for name in names for pattern in patterns)


def _stamp(photo: Path) -> Stamp | None:
    try:
        return stamp_of(photo)
    except PhotoError:
        return None


def _made(row: Standing) -> Made:
    return row.made or Made("", "")
