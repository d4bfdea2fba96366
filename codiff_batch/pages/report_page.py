"""The morning-after page: the outcome of every photo, to look at."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codiff_batch import __version__
from codiff_batch.batch.ledger import find_folder, read_ledger
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.files.atomic import write_atomically
from codiff_batch.pages.files import address, folder_beside, link, render, shown
from codiff_batch.pages.thumbnails import Thumbnails, make_thumbnails

_THUMBNAIL = re.compile(r"\d{6}-(before|after)\.webp")


@dataclass(frozen=True)
class Row:
    """One photo on the page."""

    told: Outcome
    before: Path | None
    """The original photo; None if it no longer exists."""
    after: Path | None
    """The restored photo."""

    @classmethod
    def of(cls, told: Outcome, backup: Path | None = None) -> Row:
        """From a record of the report or of the journal.

        A file that was refused (not a JPEG, damaged, too large) is not shown: no decoder sees it, here or in the
        browser.
        """
        restored = told.outcome == "restored"
        before: Path | None = told.source
        if restored and told.output == told.source:  # in place
            before = backup
        elif told.outcome == "failed" and told.header_qf is None:
            before = None
        return cls(told, before=before, after=told.output if restored else None)


def rows_of_journals(folder: Path) -> list[Row]:
    """The rows of all photos in the journals of a folder.

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
    """Write a page and, beside it, a folder of thumbnails, replacing earlier ones.

    Only who may read the photos may read them. Photos themselves are not copied: the page shows them where they are. If
    there is no room for thumbnails, the page has none.

    Raises:
        PhotoError: the file system refuses the page itself.
    """
    folder = _make_room(folder_beside(page))
    # Decoding releases Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        records = list(pool.map(lambda item: _record(page, folder, *item), enumerate(rows)))
    made = f"codiff-batch {__version__}, {time.strftime('%Y-%m-%d %H:%M')}"
    shown = [path for row in rows for path in (row.told.source, row.before, row.after) if path is not None]
    write_atomically(page, render("report.html", made, records).encode(), shown=shown, overwrite=True)


def _make_room(folder: Path) -> Path | None:
    """Create the folder of thumbnails and delete those of an earlier page; None where a link leads somewhere else."""
    if folder.is_symlink():
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in folder.iterdir():
            if _THUMBNAIL.fullmatch(earlier.name):  # whatever else lies there is not ours
                earlier.unlink()
    except OSError:
        pass  # Each photo meets the same error and gets no thumbnail.
    return folder


def _record(page: Path, folder: Path | None, index: int, row: Row) -> dict[str, Any]:
    told, small = row.told, Thumbnails()
    if folder is not None:
        with contextlib.suppress(OSError):
            small = make_thumbnails(folder, f"{index:06}", row.before, row.after)
    return {
        "name": shown(told.source.name),
        "folder": shown(told.source.parent),
        "before": row.before and link(page, row.before),
        "after": row.after and link(page, row.after),
        "small": [folder and name and address(folder, name) for name in (small.before, small.after)],
        "change": small.change,
        "outcome": told.outcome,
        "reason": shown(told.reason),
        "header": told.header_qf,
        "estimate": told.estimated_qf,
        "size": [told.width, told.height],
        "seconds": round(told.seconds, 2),
    }
