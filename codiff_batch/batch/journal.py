"""The journal: what became of every photo, in SQLite, so that no work is lost or done twice.

One file per output folder (or backup folder, in place) and shard. A photo that gets a new file has two entries
in turn: its *intent*, with the digest of the bytes that are about to appear, and its outcome. A run that was
killed between the two finds the intent and can tell by the digest whether the file had appeared.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from codiff_batch.batch.outcome import Outcome
from codiff_batch.errors import FolderUnavailable, PhotoError

log = logging.getLogger(__name__)

FOLDER = ".codiff-batch"
"""In the output folder; hidden, so that a scan passes over it."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  id INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, photos INTEGER, settled INTEGER NOT NULL DEFAULT 0,
  model TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS photos (
  source BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER,
  outcome TEXT NOT NULL, reason TEXT NOT NULL, output BLOB, output_sha256 TEXT, backup BLOB, source_sha256 TEXT,
  model TEXT NOT NULL, options TEXT NOT NULL, header_qf REAL, estimated_qf REAL, width INTEGER, height INTEGER,
  seconds REAL, ended REAL NOT NULL, run INTEGER NOT NULL REFERENCES runs
) WITHOUT ROWID;
"""

COMMIT_SECONDS = 1.0
"""Outcomes that wrote nothing are committed together; losing a second of them costs only their judging."""


@dataclass(frozen=True)
class Identity:
    """What changes when a file is written to or replaced."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Identity:
        """Look at a file; a link is followed.

        Raises:
            PhotoError: there is no such file any more, or it may not be looked at.
        """
        try:
            found = path.stat()
        except OSError as error:
            raise PhotoError(f"cannot be read: {error.strerror}") from error
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True)
class Entry:
    """One photo's row."""

    source: Path
    identity: Identity
    """Of the source; after a rewrite in place, of the new file."""
    outcome: str
    """``restored``, ``skipped``, ``failed``, ``undone``, or ``writing`` for an intent."""
    reason: str
    model: str
    """Name and digest of the weights."""
    options: str
    """Digest of the options that shape the result."""
    output: Path | None = None
    output_sha256: str | None = None
    backup: Path | None = None
    source_sha256: str | None = None
    header_qf: float | None = None
    estimated_qf: float | None = None
    width: int | None = None
    height: int | None = None
    seconds: float = 0.0
    ended: float = 0.0
    """Unix time."""
    run: int = 0


@dataclass(frozen=True)
class Run:
    """One start of the program."""

    id: int
    started: float
    ended: float | None
    photos: int | None
    """How many were planned; None for a daemon, which never knows."""
    settled: int
    """How many of them an earlier run had finished."""
    model: str
    host: str
    pid: int


_COLUMNS = (
    "source", "size", "mtime_ns", "inode", "outcome", "reason", "model", "options", "output", "output_sha256",
    "backup", "source_sha256", "header_qf", "estimated_qf", "width", "height", "seconds", "ended", "run",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM photos"
_UPSERT = f"INSERT OR REPLACE INTO photos ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class Journal:
    """One journal file; safe to use from several threads, and by several processes of one machine."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open a journal.

        Raises:
            FolderUnavailable: the file system refuses, or the file is not a journal.
        """
        self.path = path
        self._lock = threading.Lock()
        self._run = 0
        self._committed = time.monotonic()
        try:
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                path if create else f"{path.resolve().as_uri()}?mode=rw",
                timeout=60,
                check_same_thread=False,
                uri=not create,
            )
            # File systems without shared memory (network mounts) refuse WAL and keep the rollback journal.
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            if create:
                self._database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise FolderUnavailable(f"cannot keep a journal in {path.parent}: {error}") from error

    def close(self) -> None:
        """Commit and close; what a full disk does not take any more is judged again by the next run."""
        with self._lock:
            try:
                self._database.commit()
            except sqlite3.Error as error:
                log.warning("the journal %s is not complete: %s", self.path, error)
            self._database.close()

    def begin(self, model: str, photos: int | None) -> None:
        """Note the start of a run; entries from now on are its own.

        Raises:
            FolderUnavailable: the file system refuses.
        """
        values = (time.time(), photos, model, platform.node(), os.getpid())
        try:
            with self._lock, self._database:
                cursor = self._database.execute(
                    "INSERT INTO runs (started, photos, model, host, pid) VALUES (?, ?, ?, ?, ?)", values
                )
        except sqlite3.Error as error:
            raise FolderUnavailable(f"cannot keep a journal in {self.path.parent}: {error}") from error
        self._run = cursor.lastrowid or 0

    def join(self) -> None:
        """Make entries part of the latest run, as a helper process does."""
        with self._lock:
            self._run = self._database.execute("SELECT max(id) FROM runs").fetchone()[0] or 0

    def end(self) -> None:
        """Note the end of the run."""
        with contextlib.suppress(sqlite3.Error), self._lock, self._database:
            self._database.execute("UPDATE runs SET ended = ? WHERE id = ?", (time.time(), self._run))

    def find(self, source: Path) -> Entry | None:
        """The entry of a photo, if there is one."""
        with self._lock:
            row = self._database.execute(f"{_SELECT} WHERE source = ?", (_key(source),)).fetchone()
        return None if row is None else _entry(row)

    def entries(self, run: int | None = None) -> Iterator[Entry]:
        """All entries, or those of one run, by path."""
        where, values = ("", ()) if run is None else (" WHERE run = ?", (run,))
        with self._lock:
            rows = self._database.execute(f"{_SELECT}{where} ORDER BY source", values).fetchall()
        return map(_entry, rows)

    def last_run(self) -> Run | None:
        """The latest run."""
        columns = ", ".join(field.name for field in fields(Run))
        with self._lock:
            row = self._database.execute(f"SELECT {columns} FROM runs ORDER BY id DESC LIMIT 1").fetchone()
        return None if row is None else Run(*row)

    def settled(self) -> None:
        """Count a photo that an earlier run had finished."""
        self._write("UPDATE runs SET settled = settled + 1 WHERE id = ?", (self._run,), now=False)

    def record(self, entry: Entry, *, now: bool) -> None:
        """Write an entry; ``now`` makes it durable before the call returns.

        Raises:
            sqlite3.Error: the file system refuses.
        """
        named = {field.name: getattr(entry, field.name) for field in fields(Entry)}
        named |= {"source": _key(entry.source), **vars(entry.identity), "run": self._run}
        named |= {"ended": time.time(), "output": _bytes(entry.output), "backup": _bytes(entry.backup)}
        self._write(_UPSERT, tuple(named[column] for column in _COLUMNS), now=now)

    def _write(self, statement: str, values: tuple[object, ...], *, now: bool) -> None:
        with self._lock:
            self._database.execute(statement, values)
            if now or time.monotonic() - self._committed > COMMIT_SECONDS:
                self._database.commit()
                self._committed = time.monotonic()


def entry_of(outcome: Outcome, identity: Identity, model: str, options: str) -> Entry:
    """The part of an entry that an outcome tells."""
    return Entry(
        source=outcome.source,
        identity=identity,
        outcome=outcome.outcome,
        reason=outcome.reason,
        model=model,
        options=options,
        output=outcome.output,
        header_qf=outcome.header_qf,
        estimated_qf=outcome.estimated_qf,
        width=outcome.width,
        height=outcome.height,
        seconds=outcome.seconds,
    )


def sha256(data: bytes) -> str:
    """Hexadecimal digest of bytes in memory."""
    return hashlib.sha256(data).hexdigest()


def _entry(row: tuple[object, ...]) -> Entry:
    named = dict(zip(_COLUMNS, row, strict=True))
    identity = Identity(*(named.pop(name) for name in ("size", "mtime_ns", "inode")))  # type: ignore[arg-type]
    for name in ("source", "output", "backup"):
        named[name] = None if named[name] is None else Path(os.fsdecode(named[name]))  # type: ignore[arg-type]
    return Entry(identity=identity, **named)  # type: ignore[arg-type]


def _key(source: Path) -> bytes:
    """The source's own name, absolute, without following a link at its end: bytes, for names that are not UTF-8."""
    return os.fsencode(source.parent.resolve() / source.name)


def _bytes(path: Path | None) -> bytes | None:
    return None if path is None else os.fsencode(path.absolute())
