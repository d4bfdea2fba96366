"""The journal: for every photo, what stands on disk because of us and what the last attempt said; in SQLite.

One file per output folder (or backup folder, in place) and shard. Each photo has up to two rows, by its *place*: the
path of its output or backup relative to the folder, so that the folder may move.

* ``standing``: the file that we wrote, its digest, the original's digest, and what it was made with. While a new one is
  being put in its place, the *intent* holds the digest of the bytes that are about to appear beside the old one, so a
  run that was killed in between can tell by the bytes which of the two stand.
* ``attempts``: what became of the photo the last time. An attempt that failed or was skipped never changes what stands.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from codiff_batch.batch.rows import (
    ATTEMPT,
    STANDING,
    Attempt,
    Row,
    Standing,
    attempt_of,
    attempt_row,
    standing_of,
    standing_row,
)
from codiff_batch.errors import FolderUnavailable, JournalDamaged, JournalNewer
from codiff_batch.files.atomic import make_folders
from codiff_batch.files.audience import narrow
from codiff_batch.files.identity import MARK_FOLDER, canonical, mount_of, real

log = logging.getLogger(__name__)

Value = TypeVar("Value")

VERSION = 1
"""``PRAGMA user_version`` of the journals that this program writes."""

SCHEMA = (
    """CREATE TABLE runs (
      id INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, photos INTEGER, known INTEGER NOT NULL DEFAULT 0,
      model TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, roots TEXT NOT NULL DEFAULT '{}'
    )""",
    """CREATE TABLE standing (
      place BLOB PRIMARY KEY, source BLOB NOT NULL, source_below BLOB, in_place INTEGER NOT NULL,
      original TEXT NOT NULL, sha256 TEXT, made TEXT, intent TEXT, written REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX standing_sha256 ON standing (sha256)",
    """CREATE TABLE attempts (
      place BLOB PRIMARY KEY, source BLOB NOT NULL, output BLOB, stamp TEXT, sha256 TEXT, asked TEXT NOT NULL,
      made TEXT NOT NULL, outcome TEXT NOT NULL, ended REAL NOT NULL, run INTEGER NOT NULL
    ) WITHOUT ROWID""",
    f"PRAGMA user_version = {VERSION}",
)
"""The statements for a new journal; together they are one transaction."""

COMMIT_SECONDS = 1.0
"""Attempts that wrote nothing wait this long and are committed together; losing them only means judging again."""

BUSY_SECONDS = 600.0
"""How long to wait for another process that writes: it may have been stopped in the middle."""

UnixTime = Annotated[float, msgspec.Meta(ge=0, le=1 << 40)]
"""Seconds, as far as calendars go."""

_NAME = re.compile(r"journal-(all|\d+-of-\d+)\.sqlite")


@dataclass(frozen=True)
class Run:
    """One start of the program."""

    id: int
    started: UnixTime
    ended: UnixTime | None
    photos: int | None
    """How many were planned for this folder; None for a daemon, which never knows."""
    known: int
    """How many of them an earlier run had finished."""
    model: str
    host: str
    pid: int
    roots: str = "{}"
    """Folders that photos were taken from and where their disks were mounted, as JSON."""


def journal_path(folder: Path, owner: str) -> Path:
    """Where the journal of an output or backup folder lies."""
    return folder / MARK_FOLDER / f"journal-{owner}.sqlite"


def journals_in(folder: Path) -> list[Path]:
    """The journals of a folder, one for each shard; links and other files are not ours."""
    try:
        found = [path for path in (folder / MARK_FOLDER).iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        return []
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def owner_of(path: Path) -> str:
    """The shard whose journal this is, or ``all``."""
    match = _NAME.fullmatch(path.name)
    return match.group(1) if match else "all"


def holds_backups(path: Path) -> bool:
    """Return True if a journal tells of photos that were rewritten in place.

    Raises:
        JournalDamaged: it cannot be read.
    """
    try:
        with contextlib.closing(connect_to_read(path)) as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            where = "standing WHERE in_place" if version else "photos WHERE backup IS NOT NULL"
            return database.execute(f"SELECT 1 FROM {where} LIMIT 1").fetchone() is not None
    except sqlite3.Error as error:
        raise JournalDamaged(_DAMAGED.format(path=path)) from error


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a journal without the right to write.

    Raises:
        sqlite3.OperationalError: it cannot be opened so.
    """
    for part in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        if part.exists() and not part.is_file():  # For a pipe, SQLite would wait for ever.
            raise sqlite3.OperationalError(f"{part.name} is not a file")
    return sqlite3.connect(f"{real(path).as_uri()}?mode=ro", uri=True)


def folder_of(path: Path) -> Path:
    """The output or backup folder that a journal belongs to."""
    return real(path).parent.parent


class Journal:
    """One journal file, open for writing; safe to use from several threads, and by several processes of one machine."""

    def __init__(self, path: Path) -> None:
        """Open a journal, make a new one, or convert one of an earlier version.

        Raises:
            FolderUnavailable: the file system refuses.
            JournalDamaged, JournalNewer: it cannot be used as it is.
        """
        self.path, self.run = path, 0
        self._lock = threading.RLock()
        self._waiting: dict[bytes, Attempt] = {}
        self._known = 0
        self._timer: threading.Timer | None = None
        try:
            make_folders(path.parent)
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise FolderUnavailable(f"cannot keep a journal in {path.parent}: {error}") from error
        try:
            with in_words(path):
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        # File systems without shared memory (network mounts) refuse WAL and keep the rollback journal.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        check(self._database, self.path)
        if version_of(self._database) == VERSION:
            return
        from codiff_batch.batch.migration import migrate

        with self._transaction():
            if version_of(self._database) == VERSION:
                return  # Another process was faster.
            migrate(self._database, self.path)

    def close(self) -> None:
        """Commit and close; what a full disk no longer takes will be judged again by the next run."""
        with self._lock:
            try:
                self.flush()
            except FolderUnavailable as error:
                log.warning("the journal %s is not complete: %s", self.path, error)
            self._database.close()

    def begin(self, model: str, photos: int | None, roots: Iterable[Path]) -> None:
        """Note the start of a run; attempts from now on belong to it.

        Args:
            model: its name and digest.
            photos: how many are planned; None if that is not known.
            roots: folders and photos that were named; where a link leads is noted, for links change.

        Raises:
            FolderUnavailable: the file system refuses.
        """
        places = {real(root) if root.is_dir() else canonical(root) for root in roots}
        mounts = {os.fsdecode(place): os.fsdecode(mount_of(place)) for place in sorted(places)}
        self._keep_from(places)
        values = (time.time(), photos, model, platform.node(), os.getpid(), json.dumps(mounts))
        with in_words(self.path), self._lock, self._transaction():
            cursor = self._database.execute(
                "INSERT INTO runs (started, photos, model, host, pid, roots) VALUES (?, ?, ?, ?, ?, ?)", values
            )
        self.run = cursor.lastrowid or 0

    def join(self) -> None:
        """Make attempts part of the latest run, as a helper process does."""
        with self._lock:
            self.run = self._database.execute("SELECT max(id) FROM runs").fetchone()[0] or 0

    def end(self) -> None:
        """Note the end of the run."""
        with contextlib.suppress(sqlite3.Error, FolderUnavailable), self._lock:
            self.flush()
            with self._transaction():
                self._database.execute("UPDATE runs SET ended = ? WHERE id = ?", (time.time(), self.run))

    def standing(self, place: Path) -> Standing | None:
        """What stands for a photo, if anything does."""
        return self._one(f"{_SELECT_STANDING} WHERE place = ?", os.fsencode(place), standing_of)

    def standing_with(self, sha256: str) -> Standing | None:
        """A standing file with these bytes, wherever it is."""
        return self._one(f"{_SELECT_STANDING} WHERE sha256 = ?", sha256, standing_of)

    def attempt(self, place: Path) -> Attempt | None:
        """What the last attempt said about a photo, if there was one."""
        with self._lock:
            if waiting := self._waiting.get(os.fsencode(place)):
                return waiting
        folder = folder_of(self.path)
        return self._one(f"{_SELECT_ATTEMPT} WHERE place = ?", os.fsencode(place), lambda row: attempt_of(row, folder))

    def _one(self, statement: str, key: object, read: Callable[[Row], Value | None]) -> Value | None:
        with in_words(self.path), self._lock:
            row = self._database.execute(statement, (key,)).fetchone()
            return None if row is None else read(row)

    def stand(self, standing: Standing) -> None:
        """Make durable what stands, or is about to.

        Raises:
            FolderUnavailable: the file system refuses.
        """
        self._keep_from([standing.source])
        with in_words(self.path), self._lock, self._transaction():
            put_standing(self._database, standing)

    def forget(self, place: Path) -> None:
        """Forget what stood there."""
        with in_words(self.path), self._lock, self._transaction():
            self._database.execute("DELETE FROM standing WHERE place = ?", (os.fsencode(place),))

    def record(self, attempt: Attempt, standing: Standing | None = None) -> None:
        """Write what an attempt said; with what stands because of it, both at once and durably.

        Raises:
            FolderUnavailable: the file system refuses.
        """
        attempt = replace(attempt, ended=time.time(), run=self.run)
        with self._lock:
            self._waiting[os.fsencode(attempt.place)] = attempt
            if standing is not None:
                self.flush(standing)
            else:
                self._soon()

    def count_known(self) -> None:
        """Count a photo that an earlier run had finished."""
        with self._lock:
            self._known += 1
            self._soon()

    def flush(self, standing: Standing | None = None) -> None:
        """Commit what waits.

        Raises:
            FolderUnavailable: the file system refuses.
        """
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not (self._waiting or self._known or standing):
                return
            waiting = self._waiting.values()
            hangs = any(attempt.may_hang for attempt in waiting)
            self._keep_from(None if hangs else [attempt.outcome.source for attempt in waiting])
            with in_words(self.path), self._transaction():
                self._database.execute("UPDATE runs SET known = known + ? WHERE id = ?", (self._known, self.run))
                for attempt in self._waiting.values():
                    put_attempt(self._database, attempt, folder_of(self.path))
                if standing is not None:
                    put_standing(self._database, standing)
            self._waiting.clear()
            self._known = 0

    def _soon(self) -> None:
        """Commit after a moment, even if nothing else happens; until then no transaction keeps other processes out."""
        if self._timer is None:
            self._timer = threading.Timer(COMMIT_SECONDS, self._flush_quietly)
            self._timer.daemon = True
            self._timer.start()

    def _flush_quietly(self) -> None:
        try:
            self.flush()
        except FolderUnavailable as error:
            log.warning("the journal %s is not complete: %s", self.path, error)
        except sqlite3.ProgrammingError:
            pass  # Closed meanwhile, which has flushed.

    def _keep_from(self, named: Collection[Path] | None) -> None:
        """Let nobody read the journal who may not read what it is about to name; None if that must not be looked at."""
        narrow((self.path.with_name(self.path.name + name) for name in ("", "-wal", "-shm")), named)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise


def version_of(database: sqlite3.Connection) -> int:
    """Version of a journal; -1 of a database with no tables at all."""
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        return -1
    return version


def check(database: sqlite3.Connection, path: Path) -> None:
    """Refuse a journal that cannot be used.

    Raises:
        JournalDamaged: it is broken, or no journal.
        JournalNewer: a later version of this program wrote it.
    """
    version = version_of(database)
    if version > VERSION:
        raise JournalNewer(f"{path} was written by a newer codiff-batch; update this one")
    if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise JournalDamaged(_DAMAGED.format(path=path))
    wanted = {1: {"runs", "standing", "attempts"}, 0: {"runs", "photos"}, -1: set()}[version]
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not wanted <= tables:
        raise JournalDamaged(_DAMAGED.format(path=path))


_DAMAGED = "the journal {path} is damaged; 'codiff-batch rebuild' makes a new one from the files themselves"


@contextlib.contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one line that says what to do."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.OperationalError as error:
        if "no such column" in str(error) or "no such table" in str(error):
            raise JournalDamaged(_DAMAGED.format(path=path)) from error
        raise FolderUnavailable(f"cannot keep the journal {path}: {error}") from error
    except (sqlite3.DatabaseError, msgspec.ValidationError) as error:
        raise JournalDamaged(_DAMAGED.format(path=path)) from error


_SELECT_STANDING = f"SELECT {', '.join(STANDING)} FROM standing"
_SELECT_ATTEMPT = f"SELECT {', '.join(ATTEMPT)} FROM attempts"


def _upsert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


_UPSERT_STANDING = _upsert("standing", STANDING)
_UPSERT_ATTEMPT = _upsert("attempts", ATTEMPT)


def put_standing(database: sqlite3.Connection, standing: Standing) -> None:
    """Write a row; the caller commits."""
    database.execute(_UPSERT_STANDING, standing_row(replace(standing, written=standing.written or time.time())))


def put_attempt(database: sqlite3.Connection, attempt: Attempt, folder: Path) -> None:
    """Write a row; the caller commits."""
    database.execute(_UPSERT_ATTEMPT, attempt_row(attempt, folder))


def all_standing(database: sqlite3.Connection) -> list[Standing]:
    """All that stands, by place."""
    return [standing_of(row) for row in database.execute(f"{_SELECT_STANDING} ORDER BY place")]


def all_attempts(database: sqlite3.Connection, folder: Path) -> list[Attempt]:
    """The last attempts, by place."""
    rows = (attempt_of(row, folder) for row in database.execute(f"{_SELECT_ATTEMPT} ORDER BY place"))
    return [row for row in rows if row is not None]


def latest_run(database: sqlite3.Connection) -> Run | None:
    """The latest run."""
    columns = [field.name for field in fields(Run)]
    row = database.execute(f"SELECT {', '.join(columns)} FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    return None if row is None else msgspec.convert(dict(zip(columns, row, strict=True)), Run)


def all_roots(database: sqlite3.Connection) -> dict[Path, Path]:
    """Every folder that a run took photos from, and where its disk was mounted."""
    roots: dict[Path, Path] = {}
    for (text,) in database.execute("SELECT roots FROM runs GROUP BY roots ORDER BY max(id)"):
        with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
            roots |= {Path(root): Path(mount) for root, mount in json.loads(text).items()}
    return roots
