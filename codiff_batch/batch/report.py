"""The report: one record a photo, for programs to read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from codiff_batch.batch.outcome import Outcome
from codiff_batch.errors import OptionsConflict
from codiff_batch.files.atomic import write_atomically

COLUMNS = tuple(field.name for field in fields(Outcome))
FORMATS = (".json", ".csv", ".html")
"""The last one is a page to look at (:mod:`codiff_batch.pages`)."""


def check_report_path(path: Path) -> None:
    """Refuse a report that could not be written at the end of a long batch.

    Raises:
        OptionsConflict: the suffix names no known format, or the folder does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise OptionsConflict(f"--report {path.name}: the name must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise OptionsConflict(f"--report {path}: its folder does not exist, or the name is a folder")


def write_report(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write all records, replacing an earlier report.

    Bytes of a file name that are not UTF-8 survive: in JSON as the escapes that ``os.fsdecode`` gives them, in
    CSV as they are.

    Raises:
        PhotoError: the file system refuses.
    """
    records = [_record(outcome) for outcome in outcomes]
    if path.suffix.lower() == ".json":
        data = (json.dumps(records, indent=2) + "\n").encode()
    else:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(records)
        data = text.getvalue().encode("utf-8", "surrogateescape")
    write_atomically(path, data, overwrite=True)


def _record(outcome: Outcome) -> dict[str, object]:
    values = {name: getattr(outcome, name) for name in COLUMNS}
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = str(value)
        elif isinstance(value, float):
            values[name] = round(value, 3)
    return values
