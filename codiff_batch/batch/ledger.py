"""The journals of a folder taken together. Reading needs no write access and does not disturb a running batch."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from codiff_batch.batch.journal import (
    VERSION,
    Run,
    all_attempts,
    all_roots,
    all_standing,
    check,
    connect_to_read,
    folder_of,
    in_words,
    journals_in,
    latest_run,
    owner_of,
    version_of,
)
from codiff_batch.batch.migration import migrate
from codiff_batch.batch.plan import output_root
from codiff_batch.batch.rows import Attempt, Standing
from codiff_batch.errors import FolderUnavailable


@dataclass(frozen=True)
class LatestRun:
    """The latest run that a journal knows."""

    run: Run
    owner: str
    """Its shard, or ``all``."""
    attempts: list[Attempt]
    """Its attempts so far."""


@dataclass(frozen=True)
class Ledger:
    """What stands, what the last attempts said, and the latest runs, by place."""

    standing: dict[Path, Standing] = field(default_factory=dict)
    attempts: dict[Path, Attempt] = field(default_factory=dict)
    runs: list[LatestRun] = field(default_factory=list)
    """One of each journal."""
    roots: dict[Path, Path] = field(default_factory=dict)
    """Folders that photos were taken from, and where their disks were mounted."""


def find_folder(folder: Path) -> Path:
    """The folder with journals that is meant: this one, or a photo folder's default output folder.

    Raises:
        FolderUnavailable: neither has any.
    """
    for candidate in (folder, output_root(folder)):
        if journals_in(candidate):
            return candidate
    raise FolderUnavailable(f"no journal in {folder}; name the output folder, or in place the backup folder")


def read_ledger(folder: Path) -> Ledger:
    """All journals of a folder as one, with the latest entry of any shard for each photo.

    Raises:
        FolderUnavailable: there are none, or they cannot be read.
    """
    together = Ledger()
    for path in journals_in(find_folder(folder)):
        ledger = read_journal(path)
        together.roots.update(ledger.roots)
        together.runs.extend(ledger.runs)
        for place, standing in ledger.standing.items():
            if place not in together.standing or together.standing[place].written <= standing.written:
                together.standing[place] = standing
        for place, attempt in ledger.attempts.items():
            if place not in together.attempts or together.attempts[place].ended <= attempt.ended:
                together.attempts[place] = attempt
    return Ledger(together.standing, together.attempts, _current(together.runs), together.roots)


def _current(runs: list[LatestRun]) -> list[LatestRun]:
    """The latest run and, if it is a shard's, those of the other shards, which work side by side."""
    if not runs:
        return []
    latest = max(runs, key=lambda told: told.run.started)
    return [told for told in runs if (told.owner == "all") == (latest.owner == "all")]


def read_journal(path: Path) -> Ledger:
    """One journal, of this version or an earlier one.

    Raises:
        FolderUnavailable: it cannot be read; see :class:`JournalDamaged` and :class:`JournalNewer`.
    """
    with in_words(path), contextlib.closing(_in_memory(path)) as database:
        check(database, path)
        if version_of(database) != VERSION:
            migrate(database, path)
        run, attempts = latest_run(database), all_attempts(database, folder_of(path))
        own = [] if run is None else [attempt for attempt in attempts if attempt.run == run.id]
        return Ledger(
            {standing.place: standing for standing in all_standing(database)},
            {attempt.place: attempt for attempt in attempts},
            [] if run is None else [LatestRun(run, owner_of(path), own)],
            all_roots(database),
        )


def _in_memory(path: Path) -> sqlite3.Connection:
    """A copy of a journal as it is at this moment."""
    copy = sqlite3.connect(":memory:")
    try:
        with contextlib.closing(connect_to_read(path)) as database:
            database.backup(copy)
    except sqlite3.OperationalError:
        # A journal that a run left open needs recovery first, which a read-only disk does not allow.
        with _elsewhere(path) as other, contextlib.closing(sqlite3.connect(other)) as database:
            database.backup(copy)
    return copy


@contextlib.contextmanager
def _elsewhere(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="codiff-batch-") as folder:
        for part in (path, path.with_name(f"{path.name}-wal")):
            try:
                if part.exists():
                    shutil.copyfile(part, Path(folder, part.name))
            except OSError as error:
                raise FolderUnavailable(f"cannot read the journal {part}: {error.strerror or error}") from error
        yield Path(folder, path.name)
