"""What is wrong with one photo ends in its outcome; what is wrong with everything ends the batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind
from codiff_batch.batch.plan import Task
from codiff_batch.batch.process import PhotoSteps, Work
from codiff_batch.errors import FolderUnavailable, PhotoError, TooManyBytes


def taken(error: Exception) -> Work:
    """A photo whose step raised."""
    photo = Path("a.jpg")
    work = Work(Task(photo, Path("out/a.jpg"), Path("out/a.jpg"), Path("out")))

    def step() -> None:
        raise error

    steps = PhotoSteps(BatchOptions((photo,)), None, lambda task, doing: None)
    assert steps.attempt(work, step) is None
    return work


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (PhotoError("cut off\n  in the middle"), "cut off in the middle", "photo-error"),
        (TooManyBytes("too large"), "too large", "too-many-bytes"),
        (ZeroDivisionError("a\nb"), "unexpected ZeroDivisionError: a b", "unexpected"),
    ],
)
def test_an_error_of_one_photo_is_its_outcome_in_one_line(error: Exception, reason: str, code: str) -> None:
    outcome = taken(error).outcome
    assert outcome is not None
    assert (outcome.outcome, outcome.reason, outcome.code) == (Kind.FAILED, reason, code)


def test_an_error_that_concerns_all_photos_is_passed_on() -> None:
    with pytest.raises(FolderUnavailable):
        taken(FolderUnavailable("the disk is full"))
