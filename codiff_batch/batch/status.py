"""What the journals of a folder say, for people and programs."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codiff_batch import __version__
from codiff_batch.batch.journal import Run
from codiff_batch.batch.ledger import read_ledger
from codiff_batch.batch.outcome import Kind, Outcome, words
from codiff_batch.batch.rows import Attempt, Made
from codiff_batch.engine.judge import RULE
from codiff_batch.errors import ModelError
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import find


@dataclass(frozen=True)
class Status:
    """All journals of a folder, taken together."""

    counts: dict[str, int]
    """Photos by outcome; failures whose photos are gone are left out."""
    reasons: dict[str, int]
    """Skipped photos by kind of reason."""
    failures: list[Outcome]
    runs: list[Run]
    """The latest run, or that of each shard."""
    left: int | None
    """Photos of the latest runs that have no outcome yet; None where a daemon watches, which never knows."""
    outdated: int
    """Restored photos that an older model, rule or version of this program made."""
    photos_per_second: float
    """Over the latest runs, as far as they have come."""
    megapixels_per_second: float
    """The same, of restored photos."""

    @property
    def minutes_left(self) -> float | None:
        """How long the rest takes at this rate; None where nothing is left, or no rate is known yet."""
        return self.left / self.photos_per_second / 60 if self.left and self.photos_per_second else None


def read_status(folder: Path) -> Status:
    """Read the journals of a folder; a run that is at work is not disturbed.

    Raises:
        FolderUnavailable: there are none, or they cannot be read.
    """
    ledger = read_ledger(folder)
    attempts = [attempt for attempt in ledger.attempts.values() if not _is_gone(attempt)]
    outcomes = [attempt.outcome for attempt in attempts]
    skipped = Counter(words(outcome.code) for outcome in outcomes if outcome.outcome is Kind.SKIPPED)
    left: int | None = 0
    photos = megapixels = seconds = 0.0
    for told in ledger.runs:
        run, own = told.run, told.attempts
        left = None if left is None or run.photos is None else left + max(0, run.photos - run.known - len(own))
        photos += len(own)
        megapixels += sum(a.outcome.megapixels for a in own if a.outcome.outcome is Kind.RESTORED)
        # Shards work side by side: the longest of them is the time that passed.
        seconds = max(seconds, max([run.ended or 0, *(a.ended for a in own)]) - run.started)
    rate = 1 / seconds if seconds > 0 else 0.0
    return Status(
        counts=dict(Counter(str(outcome.outcome) for outcome in outcomes)),
        reasons=dict(skipped),
        failures=[outcome for outcome in outcomes if outcome.outcome is Kind.FAILED],
        runs=[told.run for told in ledger.runs],
        left=left,
        outdated=sum(
            standing.made is not None and _is_outdated(standing.made) for standing in ledger.standing.values()
        ),
        photos_per_second=photos * rate,
        megapixels_per_second=megapixels * rate,
    )


def _is_gone(attempt: Attempt) -> bool:
    """Return True for a failure whose photo was deleted or moved since."""
    return attempt.outcome.outcome is Kind.FAILED and not os.path.lexists(attempt.source)


def _is_outdated(made: Made) -> bool:
    now = _weights(made.model)
    return made.rule != RULE or made.program != __version__ or (now is not None and made.weights != now)


@cache
def _weights(model: str) -> str | None:
    try:
        return read_card(find(model)).digest
    except ModelError:
        return None
