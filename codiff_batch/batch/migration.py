"""Converts journals of earlier versions, inside the caller's transaction."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from dataclasses import fields
from itertools import takewhile
from pathlib import Path
from typing import Any

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Code, Kind, Outcome
from codiff_batch.batch.rows import Attempt, Intent, Made, Standing
from codiff_batch.engine.judge import Ground
from codiff_batch.files.identity import Stamp

OLD = "0.1:"
"""Prefix of version 0.1's digests of options, in place of the options themselves."""

_DEFAULTS = {
    "min_qf": 60.0,
    "format": "same",
    "quality": 95,
    "strength": 1.0,
    "texture": 1.0,
    "constrain": True,
    "copy_skipped": False,
    "in_place": False,
    "include_signed": False,
}
"""Of version 0.1, for its digests."""


def old_digest(options: BatchOptions) -> str:
    """What version 0.1 would have recorded for these options; today's defaults count as the defaults of then."""
    parts = (options, options.judging, options.settings)
    now = {each.name: each.default for part in parts for each in fields(part)}
    values = {each.name: getattr(part, each.name) for part in parts for each in fields(part)}
    same = {name: default if values[name] == now[name] else values[name] for name, default in _DEFAULTS.items()}
    return OLD + hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]


def migrate(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables of this version; photos of a version 0.1 journal are carried over.

    Raises:
        sqlite3.Error: the file system refuses, or the journal is broken.
    """
    from codiff_batch.batch.journal import SCHEMA, folder_of, put_attempt, put_standing

    old = bool(database.execute("SELECT 1 FROM sqlite_master WHERE name = 'photos'").fetchone())
    if old:
        database.execute("ALTER TABLE runs RENAME TO old_runs")
    for statement in SCHEMA:
        database.execute(statement)
    if not old:
        return
    folder = folder_of(path)
    cursor = database.execute("SELECT * FROM photos")
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    prefixes = _source_prefixes(rows, folder)
    for row in rows:
        standing, attempt = _carry_over(row, folder, prefixes)
        if standing is not None:
            put_standing(database, standing)
        if attempt is not None:
            put_attempt(database, attempt, folder)
    database.execute(
        "INSERT INTO runs (id, started, ended, photos, known, model, host, pid) "
        "SELECT id, started, ended, photos, settled, model, host, pid FROM old_runs"
    )
    database.execute("DROP TABLE photos")
    database.execute("DROP TABLE old_runs")


def _carry_over(row: dict[str, Any], folder: Path, prefixes: set[Path]) -> tuple[Standing | None, Attempt | None]:
    source, output, backup = (_path(row[name]) for name in ("source", "output", "backup"))
    if source is None:
        return None, None
    kind, told = str(row["outcome"]), _outcome(row, source, output)
    written = kind in ("restored", "writing")
    in_place = written and backup is not None
    place = _below(backup or output, folder, source) or _guess(source, prefixes)
    if place is None:
        return None, None
    name, _, weights = str(row["model"]).partition("@")
    made = Made(OLD + str(row["options"]), name, weights, rule=1, program="0.1.0")
    standing = None
    digest, original = _text(row["output_sha256"]), _text(row["source_sha256"])
    if written and digest and original:
        standing = Standing(place, source, in_place, original, written=_number(row["ended"]) or 0.0)
        if kind == "restored":
            standing = Standing(place, source, in_place, original, digest, made, written=standing.written)
        else:
            standing = Standing(
                *(place, source, in_place, original),
                intent=Intent(digest, original, made, told.reason),
                written=standing.written,
            )
    if kind == "writing":
        return standing, None
    numbers = [row[column] for column in ("size", "mtime_ns", "inode")]
    stamp = None
    if all(isinstance(number, int) for number in numbers):
        size, mtime_ns, inode = numbers
        stamp = Stamp(size, mtime_ns, ctime_ns=0, inode=inode, device=0)
    seen = digest if in_place else original
    ended = _number(row["ended"]) or 0.0
    run = row["run"] if isinstance(row["run"], int) else 0
    return standing, Attempt(place, source, stamp, seen, OLD + str(row["options"]), made, told, ended, run)


def _outcome(row: dict[str, Any], source: Path, output: Path | None) -> Outcome:
    kinds = {"restored": Kind.RESTORED, "writing": Kind.RESTORED, "skipped": Kind.SKIPPED, "undone": Kind.PUT_BACK}
    kind, reason = kinds.get(str(row["outcome"]), Kind.FAILED), str(row["reason"])
    codes = {"good already": Ground.GOOD, "restored before": Code.RESTORED_BEFORE, "signed": Code.SIGNED}
    code = codes.get(reason.split(":")[0], "")
    if kind is Kind.SKIPPED and reason.startswith("output exists already"):
        code = Code.OUTPUT_EXISTS_ALREADY
    return Outcome(
        *(source, output, kind, reason, code),
        header_qf=_number(row["header_qf"]),
        estimated_qf=_number(row["estimated_qf"]),
        width=row["width"] if isinstance(row["width"], int) else None,
        height=row["height"] if isinstance(row["height"], int) else None,
        seconds=_number(row["seconds"]) or 0.0,
    )


def _below(path: Path | None, folder: Path, source: Path) -> Path | None:
    """A path relative to the journal's folder, which may have been mounted elsewhere when the path was noted."""
    if path is None:
        return None
    if path.is_relative_to(folder):
        return path.relative_to(folder)
    tails = (Path(*path.parts[start:]) for start in range(1, len(path.parts)))
    there = next((tail for tail in tails if os.path.lexists(folder / tail)), None)
    return there or _common_tail(path, source)


def _common_tail(path: Path, source: Path) -> Path:
    """What two paths have in common at their ends: outputs and backups mirror their photos."""
    pairs = zip(reversed(path.parts[1:]), reversed(source.parts[1:]), strict=False)
    same = [name for name, other in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    return Path(*reversed(same or [path.name]))


def _source_prefixes(rows: list[dict[str, Any]], folder: Path) -> set[Path]:
    """Folders that photos were taken from, told by photos whose outputs mirror them."""
    prefixes = set()
    for row in rows:
        source = _path(row["source"]) or Path()
        place = _below(_path(row["backup"]) or _path(row["output"]), folder, source)
        if place is not None and source.parts[-len(place.parts) :] == place.parts:
            prefixes.add(Path(*source.parts[: -len(place.parts)]))
    if folder.name.endswith("-restored"):
        prefixes.add(folder.with_name(folder.name.removesuffix("-restored")))
    return prefixes


def _guess(source: Path, prefixes: set[Path]) -> Path | None:
    """Where the output of a photo without one would be."""
    above = [prefix for prefix in prefixes if source.is_relative_to(prefix)]
    return source.relative_to(max(above)) if above else None  # Each lies in the one before.


def _path(value: object) -> Path | None:
    return Path(os.fsdecode(value)) if isinstance(value, bytes) and value else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, float) else None
