"""What the journal says of a photo that nobody has read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.batch.plan import Task
from codiff_batch.batch.recall import is_known
from codiff_batch.batch.rows import Attempt, Made, Standing
from codiff_batch.files.reading import stamp_of
from tests.photos import write

MADE = Made("", "tiny")


class Known:
    """A photo and what the journal knows of it."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        photo, target = write(folder / "p/a.jpg", b"photo"), folder / "out/a.jpg"
        self.task = Task(photo, target, target, folder / "out")
        outcome = Outcome(photo, None, kind, "")
        self.attempt: Attempt | None = Attempt(Path("a.jpg"), photo, stamp_of(photo), "12", "", MADE, outcome)
        self.standing: Standing | None = None
        self.alike = True

    def is_known(self, *, failed_too: bool = False) -> bool:
        journals = SimpleNamespace(
            attempt=lambda task: self.attempt,
            standing=lambda task: self.standing,
            made_alike=lambda made: self.alike,
            asked_alike=lambda attempt: self.alike,
        )
        return is_known(self.task, BatchOptions(), journals, failed_too=failed_too)  # type: ignore[arg-type]


def test_a_photo_that_was_never_tried_is_new(tmp_path: Path) -> None:
    known = Known(tmp_path, Kind.SKIPPED)
    known.attempt = None
    assert not known.is_known(failed_too=True)


@pytest.mark.parametrize("kind", [Kind.RESTORED, Kind.SKIPPED, Kind.FAILED, Kind.PUT_BACK])
def test_a_photo_that_changed_since_is_new_whatever_was_said_of_it(tmp_path: Path, kind: Kind) -> None:
    known = Known(tmp_path, kind)
    assert known.is_known(failed_too=True)
    write(known.task.source, b"another photo")
    assert not known.is_known(failed_too=True)


def test_a_failure_counts_only_where_the_caller_says_so(tmp_path: Path) -> None:
    known = Known(tmp_path, Kind.FAILED)
    assert (known.is_known(), known.is_known(failed_too=True)) == (False, True)


def test_a_photo_that_could_not_be_read_is_a_failure_whatever_it_is_now(tmp_path: Path) -> None:
    known = Known(tmp_path, Kind.FAILED)
    assert known.attempt is not None
    known.attempt = replace(known.attempt, stamp=None)
    assert (known.is_known(), known.is_known(failed_too=True)) == (False, True)


def test_a_photo_that_is_gone_needs_no_work(tmp_path: Path) -> None:
    known = Known(tmp_path, Kind.FAILED)
    known.task.source.unlink()
    assert known.is_known()


def test_a_skipped_photo_is_judged_again_with_other_options(tmp_path: Path) -> None:
    known = Known(tmp_path, Kind.SKIPPED)
    assert known.is_known()
    known.alike = False
    assert not known.is_known()


def test_a_restored_photo_is_done_again_with_other_options_if_what_stands_says_with_which(tmp_path: Path) -> None:
    known = Known(tmp_path, Kind.RESTORED)
    known.alike = False
    assert known.is_known()  # nothing stands any more
    known.standing = Standing(Path("a.jpg"), known.task.source, False, "12", "34")
    assert known.is_known()
    known.standing = replace(known.standing, made=MADE)
    assert not known.is_known()
    known.alike = True
    assert known.is_known()


def test_what_was_put_back_stays_put_back(tmp_path: Path) -> None:
    known = Known(tmp_path, Kind.PUT_BACK)
    known.alike = False
    assert known.is_known()
