"""What the journals of a folder say, for a person and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codiff_batch.batch.journal import FOLDER, Entry, Journal, Run
from codiff_batch.batch.plan import output_root
from codiff_batch.errors import FolderUnavailable


@dataclass(frozen=True)
class Status:
    """All journals of a folder, taken together."""

    counts: dict[str, int]
    """Photos by outcome."""
    reasons: dict[str, int]
    """Skipped photos by kind of reason."""
    failures: list[Entry]
    runs: list[Run]
    """The latest run of each shard."""
    left: int | None
    """Photos of the latest runs that have no outcome yet; None where a daemon watches, which never knows."""
    photos_per_second: float
    """Over the latest runs, as far as they have come."""
    megapixels_per_second: float
    """The same, of restored photos."""


def find_journals(folder: Path) -> list[Path]:
    """The journals of an output or backup folder, or of a photo folder's default output folder.

    Raises:
        FolderUnavailable: there are none.
    """
    for root in (folder, output_root(folder)):
        if found := sorted((root / FOLDER).glob("journal-*.sqlite")):
            return found
    raise FolderUnavailable(f"no journal in {folder}; name the output folder, or the backup folder of --in-place")


def open_journals(folder: Path) -> Iterator[Journal]:
    """The journals of :func:`find_journals`, each open until the next one is asked for.

    Raises:
        FolderUnavailable: there are none, or they cannot be read.
    """
    for path in find_journals(folder):
        journal = Journal(path, create=False)
        try:
            yield journal
        finally:
            journal.close()


def read_status(folder: Path) -> Status:
    """Read the journals of a folder; a run that is at work is not disturbed.

    Raises:
        FolderUnavailable: there are none, or they cannot be read.
    """
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    failures: list[Entry] = []
    runs: list[Run] = []
    left: int | None = 0
    photos = megapixels = seconds = 0.0
    for journal in open_journals(folder):
        entries, run = list(journal.entries()), journal.last_run()
        for entry in entries:
            counts[entry.outcome] += 1
            if entry.outcome == "skipped":
                reasons[entry.reason.split(":")[0]] += 1
            elif entry.outcome == "failed":
                failures.append(entry)
        if run is None:
            continue
        runs.append(run)
        own = [entry for entry in entries if entry.run == run.id and entry.outcome != "writing"]
        left = None if left is None or run.photos is None else left + run.photos - run.settled - len(own)
        photos += len(own)
        megapixels += sum((e.width or 0) * (e.height or 0) / 1e6 for e in own if e.outcome == "restored")
        # Shards work side by side: the longest of them is the time that passed.
        seconds = max(seconds, max([run.ended or 0, *(entry.ended for entry in own)]) - run.started)
    rate = 1 / seconds if seconds > 0 else 0.0
    return Status(dict(counts), dict(reasons), failures, runs, left, photos * rate, megapixels * rate)
