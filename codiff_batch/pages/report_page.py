"""The morning-after page: what became of every photo, to look at."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.parse
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codiff_batch import __version__
from codiff_batch.batch.ledger import find_folder, read_ledger
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.errors import PhotoError
from codiff_batch.files.atomic import write_atomically
from codiff_batch.pages.files import address, folder_beside, template
from codiff_batch.pages.thumbnails import make_thumbnails

_THUMBNAIL = re.compile(r"\d{6}-(before|after)\.jpg")


@dataclass(frozen=True)
class Row:
    """One photo on the page."""

    told: Outcome
    before: Path | None
    """Where the photo lies as it was; None if nowhere any more."""
    after: Path | None
    """The restored photo."""

    @classmethod
    def of(cls, told: Outcome, backup: Path | None = None) -> Row:
        """From a record of the report or of the journal."""
        restored = told.outcome == "restored"
        in_place = restored and told.output == told.source
        return cls(told, before=backup if in_place else told.source, after=told.output if restored else None)


def rows_of_journals(folder: Path) -> list[Row]:
    """The rows of all photos that the journals of a folder know.

    Raises:
        FolderUnavailable: there are none, or they cannot be read.
    """
    root, ledger = find_folder(folder), read_ledger(folder)
    rows = []
    for place, attempt in ledger.attempts.items():
        standing = ledger.standing.get(place)
        rows.append(Row.of(attempt.outcome, root / place if standing is not None and standing.in_place else None))
    return [row for row in rows if row.told.outcome is not Kind.FAILED or os.path.lexists(row.told.source)]


def write_page(page: Path, rows: Sequence[Row]) -> None:
    """Write a page and, beside it, a folder of thumbnails, in place of earlier ones.

    Photos themselves are not copied: the page shows them from where they are.

    Raises:
        PhotoError: the file system refuses.
    """
    folder = folder_beside(page)
    try:
        folder.mkdir(exist_ok=True)
        for earlier in folder.glob("[0-9]*-*.jpg"):
            if _THUMBNAIL.fullmatch(earlier.name):  # whatever else lies there is not ours
                earlier.unlink()
        # Decoding releases Python's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            records = list(pool.map(lambda item: _record(page, folder, *item), enumerate(rows)))
    except OSError as error:
        raise PhotoError(f"cannot write {folder}: {error.strerror or error}") from error
    write_atomically(page, _html(records).encode(), overwrite=True)


def _record(page: Path, folder: Path, index: int, row: Row) -> dict[str, Any]:
    told, small = row.told, make_thumbnails(folder, f"{index:06}", row.before, row.after)
    return {
        "name": _text(told.source.name),
        "folder": _text(str(told.source.parent)),
        "before": _link(page, row.before),
        "after": _link(page, row.after),
        "small": [name and address(folder, name) for name in (small.before, small.after)],
        "change": small.change,
        "outcome": told.outcome,
        "reason": _text(told.reason),
        "header": told.header_qf,
        "estimate": told.estimated_qf,
        "size": [told.width, told.height],
        "seconds": round(told.seconds, 2),
    }


def _link(page: Path, target: Path | None) -> str | None:
    """A photo's address as seen from the page, so that both may move together."""
    if target is None:
        return None
    try:
        relative = Path(os.path.relpath(target.absolute(), page.absolute().parent)).as_posix()
    except ValueError:  # another drive
        return target.absolute().as_uri()
    return urllib.parse.quote(os.fsencode(relative))


def _text(name: str) -> str:
    """A file name as far as it can be shown."""
    return os.fsencode(name).decode("utf-8", "replace")


def _html(records: Iterable[dict[str, Any]]) -> str:
    # Inside a script element only "</" could end it, and "<!--" change its meaning.
    data = json.dumps(list(records), ensure_ascii=False).replace("<", "\\u003c")
    made = f"codiff-batch {__version__}, {time.strftime('%Y-%m-%d %H:%M')}"
    return template("report.html").replace("@MADE@", made).replace("@DATA@", data)
