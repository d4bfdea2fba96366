"""The rule as a table."""

import pytest

from codiff_batch.engine import Action, header_decides, judge
from codiff_batch.engine.judge import was_saved_again

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
    assert header_decides(59, 60)
    assert not header_decides(60, 60)


def test_judging_a_good_header_without_an_estimate_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="estimate"):
        judge(95, None, 60)


@pytest.mark.parametrize(
    ("header_qf", "estimated_qf", "again"),
    [(95, 12, True), (95, 70, True), (95, 88, False), (60, 40, True), (60, 52, False), (10, 9, False), (20, 25, False)],
)
def test_pixels_much_worse_than_the_tables_were_saved_again(header_qf: float, estimated_qf: float, again: bool) -> None:
    assert was_saved_again(header_qf, estimated_qf) is again
