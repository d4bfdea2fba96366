"""Skip or restore: the rule, independent of files and networks.

The header's tables say how the file was last saved. What happened before shows in traces in the pixels or, if there are
none, in CaVE's estimate. CaVE was trained on many photos but few pages of text, charts and plain areas, so its estimate
counts only if there is enough texture and its crops agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codiff_batch.jpeg.history import History

RULE = 2
"""Version of this rule; journals record it, so that the decisions of an older one can be counted."""

HARMED_BELOW, CONTRADICTS = 93, 3
"""A picture that was downscaled after a compression counts as harmed by it if the estimate is below the first number,
and below the header's quality factor by more than the second; otherwise the last compression explains what is seen."""


class Action(StrEnum):
    """What to do with a photo."""

    RESTORE = "restore"
    SKIP = "skip"


class Ground(StrEnum):
    """What a verdict is based on: a stable name, in addition to the sentence."""

    HEADER = "header-says-so"
    PIXELS = "pixels-say-so"
    SAVED_AGAIN = "saved-again"
    MADE_SMALLER = "made-smaller"
    GOOD = "good-already"
    NO_EVIDENCE = "no-evidence"
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


def is_good(qf: float, min_qf: float) -> bool:
    """Return True if a quality factor is good enough."""
    return qf >= min_qf


def judge_by_header(header_qf: float, min_qf: float) -> Verdict | None:
    """Decide by the header alone if possible: a low quality factor means "restore", without any network."""
    if is_good(header_qf, min_qf):
        return None
    return Verdict(Action.RESTORE, Ground.HEADER, f"header says QF {header_qf:.0f}, below {min_qf:g}", header_qf, None)


def judge(
    header_qf: float | None,
    estimated_qf: float | None,
    min_qf: float,
    history: History | None = None,
    *,
    spread: float = 0.0,
) -> Verdict:
    """Decide: restore what was compressed below ``min_qf``, and skip everything else.

    Args:
        header_qf: by the file's tables; None where there is no file.
        estimated_qf: CaVE's, mean over crops; needed where the header does not decide.
        min_qf: the lowest quality factor that is good enough.
        history: what the pixels tell of earlier compressions; None if they were not looked at.
        spread: standard deviation of the estimate over crops.

    Raises:
        ValueError: the header does not decide and there is no estimate.
    """
    if header_qf is not None and (verdict := judge_by_header(header_qf, min_qf)):
        return replace(verdict, estimated_qf=estimated_qf)
    if estimated_qf is None:
        raise ValueError("a header at or above min_qf needs an estimate from the pixels")
    though = "" if header_qf is None else f", though the header says {header_qf:.0f}"
    no_trace = "no trace of an earlier compression" + (
        "" if header_qf is None else f", and the header says {header_qf:.0f}"
    )
    looks = f"pixels look like QF {estimated_qf:.0f}"
    earlier = None if history is None else history.earlier
    if earlier is not None and earlier.qf is not None and not is_good(earlier.qf, min_qf):
        grid = "" if earlier.shift == (0, 0) else " on a shifted grid"
        what = "was a JPEG once" if header_qf is None else "saved again"
        reason = f"{what}: traces of QF {earlier.qf:.0f}{grid}, below {min_qf:g}{though}"
        return Verdict(Action.RESTORE, Ground.SAVED_AGAIN, reason, header_qf, estimated_qf)
    if earlier is not None and earlier.was_resized and _is_harmed(header_qf, estimated_qf):
        reason = f"made smaller after a compression; {looks}{though}"
        return Verdict(Action.RESTORE, Ground.MADE_SMALLER, reason, header_qf, estimated_qf)
    if is_good(estimated_qf, min_qf):
        by_header = "" if header_qf is None else f"{header_qf:.0f} by header and "
        reason = f"good already: QF {by_header}{estimated_qf:.0f} by pixels, at least {min_qf:g}"
        return Verdict(Action.SKIP, Ground.GOOD, reason, header_qf, estimated_qf)
    if history is not None and not history.tells_enough:
        why = "a drawing or text, not a photo" if history.is_drawn else "too little texture to judge by"
        return Verdict(
            Action.SKIP,
            Ground.NO_EVIDENCE,
            f"{why}; {no_trace}",
            header_qf,
            estimated_qf,
        )
    if is_good(estimated_qf + spread, min_qf):
        reason = f"{looks}, but its parts disagree by {spread:.0f}; {no_trace}"
        return Verdict(Action.SKIP, Ground.NO_EVIDENCE, reason, header_qf, estimated_qf)
    return Verdict(Action.RESTORE, Ground.PIXELS, f"{looks}, below {min_qf:g}{though}", header_qf, estimated_qf)


def was_saved_again(header_qf: float, estimated_qf: float, history: History) -> bool:
    """Return True if an earlier compression did the harm.

    Then the truth is not in the cells of the last one, and bounding a restoration by them would keep the damage
    (measured: +0.1 instead of +1.1 dB for QF 10 saved again at QF 95). A low estimate alone is no evidence: without the
    bound, a page of text that was mistaken for a heavily compressed one lost 15 dB.
    """
    earlier = history.earlier
    return earlier is not None and (not earlier.was_resized or _is_harmed(header_qf, estimated_qf))


def _is_harmed(header_qf: float | None, estimated_qf: float) -> bool:
    contradicts = header_qf is None or estimated_qf < header_qf - CONTRADICTS
    return contradicts and estimated_qf < HARMED_BELOW
