"""Puts the originals of photos that were restored in place back from their backup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from codiff_batch.batch.journal import Entry, Identity, Journal, sha256
from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.outputs import write_atomically
from codiff_batch.batch.status import open_journals
from codiff_batch.errors import PhotoError


def undo(folder: Path) -> Iterator[Outcome]:
    """Undo all rewrites that the journals of a backup folder know of, and yield what became of each photo.

    A photo that somebody changed since is left alone, and so is one whose backup is not the original any more.
    Backups stay where they are.

    Raises:
        FolderUnavailable: the folder has no journal, or it cannot be written.
    """
    for journal in open_journals(folder):
        for entry in journal.entries():
            if entry.backup is not None and entry.outcome in ("restored", "writing"):
                yield _undo(entry, journal)


def _undo(entry: Entry, journal: Journal) -> Outcome:
    assert entry.backup is not None
    try:
        current = sha256(entry.source.read_bytes())
        if current == entry.source_sha256:
            reason = "is the original already"
        elif current != entry.output_sha256:
            raise PhotoError("was changed since it was restored, and is left alone")
        else:
            original = entry.backup.read_bytes()
            if sha256(original) != entry.source_sha256:
                raise PhotoError(f"its backup {entry.backup} is not the original any more")
            write_atomically(entry.source, original, like=entry.backup, overwrite=True)
            reason = f"put back from {entry.backup}"
        journal.record(replace(entry, outcome="undone", identity=Identity.of(entry.source)), now=True)
    except OSError as error:
        return Outcome(entry.source, None, "failed", f"cannot be put back: {error.strerror or error}")
    except PhotoError as error:
        return Outcome(entry.source, None, "failed", str(error))
    return Outcome(entry.source, entry.source, "restored", reason)
