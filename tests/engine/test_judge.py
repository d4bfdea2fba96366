"""The rule as a table."""

from typing import Any

import pytest

from codiff_batch.engine import Action, judge
from codiff_batch.engine.judge import judge_by_header, was_saved_again
from codiff_batch.jpeg.history import Earlier, History

RESTORE, SKIP = Action.RESTORE, Action.SKIP


@pytest.mark.parametrize(
    ("header_qf", "estimated_qf", "min_qf", "action", "reason"),
    [
        (35, None, 60, RESTORE, "header says QF 35, below 60"),
        (35, 80, 60, RESTORE, "header says QF 35, below 60"),
        (95, 12, 60, RESTORE, "pixels look like QF 12, below 60, though the header says 95"),
        (95, 59.9, 60, RESTORE, "pixels look like"),
        (95, 60, 60, SKIP, "good already"),
        (60, 60, 60, SKIP, "good already"),
        (92, 88, 60, SKIP, "good already: QF 92 by header and 88 by pixels, at least 60"),
        (92, 88, 90, RESTORE, "pixels look like QF 88"),
        (100, 99.5, 100, RESTORE, "pixels look like"),
        (1, 1, 0, SKIP, "good already"),
    ],
)
def test_the_lower_of_header_and_pixels_decides(
    header_qf: float, estimated_qf: float | None, min_qf: float, action: Action, reason: str
) -> None:
    verdict = judge(header_qf, estimated_qf, min_qf)
    assert verdict.action is action
    assert reason in verdict.reason
    assert (verdict.header_qf, verdict.estimated_qf) == (header_qf, estimated_qf)


def test_a_header_below_the_limit_needs_no_network() -> None:
    assert judge_by_header(59, 60)
    assert not judge_by_header(60, 60)


def test_judging_a_good_header_without_an_estimate_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="estimate"):
        judge(95, None, 60)


TEXTURED = History(blocks=1000, is_drawn=False, earlier=None)
FLAT = History(blocks=0, is_drawn=False, earlier=None)
DRAWN = History(blocks=1000, is_drawn=True, earlier=None)


def after(qf: float | None = None, **traces: Any) -> History:
    return History(1000, False, Earlier(qf, **traces))


@pytest.mark.parametrize(
    ("estimated_qf", "spread", "history", "action", "reason"),
    [
        (90, 2, after(20), RESTORE, "saved again: traces of QF 20, below 60, though the header says 95"),
        (90, 2, after(20, shift=(3, 5)), RESTORE, "traces of QF 20 on a shifted grid"),
        (90, 2, after(60), SKIP, "good already"),
        (70, 2, after(period=6.0), RESTORE, "made smaller after a compression; pixels look like QF 70"),
        (95, 2, after(period=6.0), SKIP, "good already"),
        (20, 2, TEXTURED, RESTORE, "pixels look like QF 20"),
        (
            20,
            2,
            FLAT,
            SKIP,
            "too little texture to judge by; no trace of an earlier compression, and the header says 95",
        ),
        (20, 2, DRAWN, SKIP, "a drawing or text, not a photo"),
        (50, 15, TEXTURED, SKIP, "its parts disagree by 15"),
        (50, 5, TEXTURED, RESTORE, "pixels look like QF 50"),
        (20, 2, History(1000, True, Earlier(15)), RESTORE, "traces of QF 15"),
    ],
)
def test_an_estimate_counts_where_there_is_evidence(
    estimated_qf: float, spread: float, history: History, action: Action, reason: str
) -> None:
    verdict = judge(95, estimated_qf, 60, history, spread=spread)
    assert verdict.action is action
    assert reason in verdict.reason


def test_a_picture_made_smaller_was_harmed_where_its_header_does_not_explain_what_is_seen() -> None:
    for header_qf, estimated_qf, action in ((95, 88, RESTORE), (90, 88, SKIP), (92, 91, SKIP), (80, 70, RESTORE)):
        assert judge(header_qf, estimated_qf, 60, after(period=6.0)).action is action


def test_the_header_decides_whatever_the_pixels_tell() -> None:
    for history in (FLAT, DRAWN, TEXTURED, after(20)):
        assert judge(35, 90, 60, history).reason == "header says QF 35, below 60"


@pytest.mark.parametrize(
    ("estimated_qf", "history", "again"),
    [
        (12, TEXTURED, False),
        (12, DRAWN, False),
        (90, after(20), True),
        (90, after(55, shift=(1, 0)), True),
        (70, after(period=6.0), True),
        (95, after(period=6.0), False),
    ],
)
def test_the_bound_is_lifted_by_traces_and_never_by_a_low_estimate_alone(
    estimated_qf: float, history: History, again: bool
) -> None:
    assert was_saved_again(95, estimated_qf, history) is again
