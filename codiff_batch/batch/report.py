"""The report: one record per photo, for programs to read."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from codiff_batch.batch.outcome import Outcome
from codiff_batch.errors import FolderUnavailable, OptionsConflict, PhotoError, Role
from codiff_batch.files.atomic import write_atomically
from codiff_batch.files.text import no_formula

KEYS = tuple(field.name for field in fields(Outcome))
CELLS = tuple(name for name in KEYS if name != "steps")
"""A CSV file's columns: what fits a cell."""
FORMATS = (".json", ".csv", ".html")
"""The last one is a page to look at (:mod:`codiff_batch.pages`)."""


def check_report_path(path: Path) -> None:
    """Make sure that a report can be written at the end of a long batch; create its folder if needed.

    Raises:
        OptionsConflict: the suffix names no known format, or the name is a folder's.
        FolderUnavailable: nothing can be written there.
    """
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise FolderUnavailable(f"report {path} cannot be written: Permission denied", Role.REPORT)
        return
    if path.suffix.lower() not in FORMATS:
        raise OptionsConflict(f"report {path.name}: the name must end in .json, .csv or .html", Role.REPORT)
    if path.is_dir():
        raise OptionsConflict(f"report {path}: there is a folder of that name", Role.REPORT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise FolderUnavailable(f"report {path} cannot be written: {error.strerror or error}", Role.REPORT) from error


def is_stream(path: Path) -> bool:
    """Return True for a pipe or a device such as ``/dev/stdout``, which gets JSON and is not replaced by a file."""
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def write_report(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write all records, in place of an earlier report, for those who may read the photos.

    Bytes of a file name that are not UTF-8 survive: in JSON as the escapes that ``os.fsdecode`` gives them, in
    CSV as they are.

    Raises:
        PhotoError, OSError: the file system refuses.
    """
    if is_stream(path):
        with os.fdopen(_open_stream(path), "wb") as stream:
            stream.write(as_json(outcomes).encode())
        return
    data = _as_csv(outcomes) if path.suffix.lower() == ".csv" else as_json(outcomes).encode()
    write_atomically(path, data, shown=[outcome.source for outcome in outcomes], overwrite=True)


def _open_stream(path: Path) -> int:
    """Open a pipe or a device, without waiting for somebody who reads the pipe: that may be forever."""
    try:
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise PhotoError("nobody reads it") from error
        raise
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(handle, True)  # whoever reads may be slow
    return handle


def rescue_report(outcomes: Iterable[Outcome]) -> Path:
    """Write the records to a temporary file, because the report could not be written."""
    handle, name = tempfile.mkstemp(prefix="codiff-batch-report-", suffix=".json")
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(as_json(outcomes))
    return Path(name)


def as_json(outcomes: Iterable[Outcome]) -> str:
    """All records as one JSON list, in ASCII."""
    return json.dumps([_record(outcome) for outcome in outcomes], indent=2) + "\n"


def _as_csv(outcomes: Iterable[Outcome]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, CELLS)
    writer.writeheader()
    for outcome in outcomes:
        record = _record(outcome)
        writer.writerow({n: no_formula(v) if isinstance(v := record[n], str) else v for n in CELLS})
    return text.getvalue().encode("utf-8", "surrogateescape")


def _record(outcome: Outcome) -> dict[str, object]:
    values = {name: getattr(outcome, name) for name in KEYS}
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = str(value)
        elif isinstance(value, float):
            values[name] = round(value, 3)
    return values
