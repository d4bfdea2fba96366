"""The result of a batch, in a few lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import SHOWN_FAILURES, Kind, Outcome, words
from codiff_batch.cli.remedies import hint_of
from codiff_batch.files.text import printable


def summarize(outcomes: Sequence[Outcome], options: BatchOptions, seconds: float) -> list[str]:
    """Counts, speed, reasons for skipping, and the first failures, one line each."""
    counts = Counter(outcome.outcome for outcome in outcomes)
    done = Kind.WOULD_BE_RESTORED if options.dry_run else Kind.RESTORED
    megapixels = sum(outcome.megapixels for outcome in outcomes if outcome.outcome is Kind.RESTORED)
    rate = "" if options.dry_run or not megapixels else f", {megapixels:.1f} megapixels restored"
    lines = [
        f"{_photos(len(outcomes))}: {counts[done]} {done}, {counts[Kind.SKIPPED]} skipped, "
        f"{counts[Kind.FAILED]} failed in {_duration(seconds)}{rate}"
    ]
    codes = Counter(outcome.code for outcome in outcomes if outcome.outcome is Kind.SKIPPED)
    lines += [f"  skipped {count}: {words(code)}{hint_of(code)}" for code, count in codes.most_common()]
    failures = [outcome for outcome in outcomes if outcome.outcome is Kind.FAILED]
    lines += [f"  {told(failure)}" for failure in failures[:SHOWN_FAILURES]]
    if len(failures) > SHOWN_FAILURES:
        lines.append(f"  ... and {len(failures) - SHOWN_FAILURES} more (see --report)")
    if failures and options.copy_skipped:
        lines.append("  failed photos were not copied; the output folder is not complete")
    return lines


def told(outcome: Outcome) -> str:
    """One photo's line: its outcome, why, and which options help."""
    reason = printable(outcome.reason) + hint_of(outcome.code)
    return f"{outcome.outcome}: {printable(str(outcome.source))}: {reason}"


def _photos(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
