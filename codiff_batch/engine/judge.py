"""Skip or restore: the one rule, free of files and networks.

Two witnesses speak. The header's tables say how the file was saved last; CaVE says what the pixels went
through. A photo that was crushed at QF 10 and saved again at QF 95 has a header of 95, so the lower of the
two decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

RULE = 1
"""Version of this rule; journals keep it, so that what an older one decided can be counted."""

SAVED_AGAIN = 0.75
"""Share of the header's QF below which an estimate is no longer an error of estimation."""


class Action(StrEnum):
    """What to do with a photo."""

    RESTORE = "restore"
    SKIP = "skip"


class Ground(StrEnum):
    """What a verdict rests on: a stable name beside the sentence."""

    HEADER = "header-says-so"
    PIXELS = "pixels-say-so"
    GOOD = "good-already"
    BY_HAND = "quality-by-hand"
    ASKED = "asked-for"


@dataclass(frozen=True)
class Verdict:
    """A decision with its grounds."""

    action: Action
    ground: Ground
    reason: str
    header_qf: float | None
    """Quality factor 1..100 that fits the file's quantization tables best; None where there is no file."""
    estimated_qf: float | None
    """CaVE's estimate from the pixels, 0..100; None where the header alone decided."""


def header_decides(header_qf: float, min_qf: float) -> bool:
    """Whether the header alone means "restore", so that no network is needed to judge."""
    return not is_good(header_qf, min_qf)


def is_good(qf: float, min_qf: float) -> bool:
    """Return True if a quality factor is good enough."""
    return qf >= min_qf


def judge_by_header(header_qf: float, min_qf: float) -> Verdict | None:
    """Decide by the header alone, where it does: a low one means "restore", and no network is needed to judge."""
    if is_good(header_qf, min_qf):
        return None
    return Verdict(Action.RESTORE, Ground.HEADER, f"header says QF {header_qf:.0f}, below {min_qf:g}", header_qf, None)


def judge(header_qf: float | None, estimated_qf: float | None, min_qf: float) -> Verdict:
    """Decide by the lower of the two quality factors: at least ``min_qf`` is good enough and skipped.

    Raises:
        ValueError: the header does not decide and there is no estimate.
    """
    if header_qf is not None and (verdict := judge_by_header(header_qf, min_qf)):
        return replace(verdict, estimated_qf=estimated_qf)
    if estimated_qf is None:
        raise ValueError("a header at or above min_qf needs an estimate from the pixels")
    header = "there is no file" if header_qf is None else f"the header says {header_qf:.0f}"
    if not is_good(estimated_qf, min_qf):
        reason = f"pixels look like QF {estimated_qf:.0f}, below {min_qf:g}, though {header}"
        return Verdict(Action.RESTORE, Ground.PIXELS, reason, header_qf, estimated_qf)
    by_header = "" if header_qf is None else f"{header_qf:.0f} by header and "
    reason = f"good already: QF {by_header}{estimated_qf:.0f} by pixels, at least {min_qf:g}"
    return Verdict(Action.SKIP, Ground.GOOD, reason, header_qf, estimated_qf)


def was_saved_again(header_qf: float, estimated_qf: float) -> bool:
    """Whether the pixels look much worse than the file's own tables could have made them.

    Then an earlier compression did the harm, and the cells of the last one do not hold the truth: bounding a
    restoration by them would keep the damage (measured: +0.1 instead of +1.1 dB for QF 10 saved again at QF 95).
    """
    return estimated_qf < SAVED_AGAIN * header_qf
