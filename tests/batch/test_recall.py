"""What the journal says of a photo before any work, and without reading it where that will do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codiff_batch.batch.journal import journals_in
from codiff_batch.batch.journals import Folder, Journals, made_with
from codiff_batch.batch.ledger import read_ledger
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Code, Kind, Outcome
from codiff_batch.batch.plan import Task
from codiff_batch.batch.recall import Recall, is_anothers, is_known, recall
from codiff_batch.batch.rows import Attempt, Intent, Made, Standing
from codiff_batch.errors import Collision, TooManyBytes
from codiff_batch.files.identity import canonical
from codiff_batch.files.reading import sha256, stamp_of
from tests.photos import write
from tests.tiny_model import make_tiny_model

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


PHOTO, OUTPUT, OTHER = b"photo", b"output", b"something else"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


class Shelf:
    """A photo, where its output or backup lies, and a journal that can be told anything of them."""

    def __init__(self, folder: Path, model: Path, *, in_place: bool) -> None:
        self.options = BatchOptions(model=str(model), in_place=in_place)
        self.made = made_with(self.options)
        self.photo, self.root, self.place = folder / "p/a.jpg", folder / "out", Path("a.jpg")
        target, backup = (self.photo, self.root / "a.jpg") if in_place else (self.root / "a.jpg", None)
        self.task = Task(self.photo, target, target, self.root, backup)
        write(self.photo, OUTPUT if in_place else PHOTO)
        write(self.root / "a.jpg", PHOTO if in_place else OUTPUT)

    def standing(self, **changes: Any) -> Standing:
        """As if this run had made the photo."""
        stands = Standing(
            *(self.place, canonical(self.photo), self.options.in_place, sha256(PHOTO), sha256(OUTPUT), self.made)
        )
        return replace(stands, **changes)

    def attempt(self, kind: Kind = Kind.SKIPPED, code: str = "", **changes: Any) -> Attempt:
        """As if this run had looked at the photo as it is now."""
        outcome = Outcome(Path("old name.jpg"), None, kind, "reason", code, seconds=3.5)
        seen = sha256(self.photo.read_bytes())
        said = Attempt(self.place, self.photo, stamp_of(self.photo), seen, "", self.made, outcome)
        return replace(said, **changes)

    def recall(self, attempt: Attempt | None, *standing: Standing, **changes: Any) -> Recall:
        """What is known of the photo, if the journal says no more than this."""
        options = replace(self.options, **changes)
        for earlier in journals_in(self.root):
            earlier.unlink()
        with Journals(options, [Folder(self.root, frozenset())]) as journals:
            journal = journals.of(self.task)
            for stands in standing:
                journal.stand(stands)
            if attempt is not None:
                journal.record(attempt)
            return recall(self.task, options, journals)


@pytest.fixture
def beside(tmp_path: Path, model: Path) -> Shelf:
    return Shelf(tmp_path, model, in_place=False)


@pytest.fixture
def in_place(tmp_path: Path, model: Path) -> Shelf:
    return Shelf(tmp_path, model, in_place=True)


def told(seen: Recall) -> tuple[Kind, str, str] | None:
    return None if seen.known is None else (seen.known.outcome, seen.known.code, seen.known.reason)


DONE = (Kind.SKIPPED, "done-before", "done before: by an earlier run")


def test_a_photo_is_read_only_if_its_stamp_cannot_tell_it(beside: Shelf) -> None:
    known = beside.recall(beside.attempt(sha256="12"), beside.standing())
    assert (known.sha256, known.contents) == ("12", None)  # as the journal says
    early = beside.recall(beside.attempt(sha256=None))
    assert (early.sha256, early.contents) == (None, None)
    unsure = (
        beside.recall(None),
        beside.recall(beside.attempt(sha256=None), beside.standing()),
        beside.recall(beside.attempt(sha256="12", stamp=None)),
        beside.recall(beside.attempt(sha256="12", stamp=replace(stamp_of(beside.photo), size=7))),
    )
    for seen in unsure:
        assert seen.contents is not None
        assert (seen.contents.data, seen.sha256) == (PHOTO, sha256(PHOTO))
    with pytest.raises(TooManyBytes):
        beside.recall(None, max_bytes=len(PHOTO) - 1)


def test_what_may_be_replaced_is_what_stands_and_a_copy_of_the_photo(beside: Shelf) -> None:
    assert beside.recall(None).ours == frozenset()
    assert beside.recall(None, beside.standing()).ours == {sha256(OUTPUT)}
    assert beside.recall(beside.attempt(sha256=None), beside.standing()).ours == {sha256(OUTPUT)}
    assert beside.recall(beside.attempt(), beside.standing()).ours == {sha256(OUTPUT), sha256(PHOTO)}


def test_a_photo_whose_output_stands_is_done(beside: Shelf) -> None:
    assert told(beside.recall(None, beside.standing())) == DONE
    seen = beside.recall(beside.attempt(Kind.RESTORED), beside.standing())
    assert told(seen) == (Kind.SKIPPED, "done-before", "done before: reason")
    assert seen.known is not None
    assert (seen.known.source, seen.known.output, seen.known.seconds) == (beside.photo, beside.task.target, 0)
    assert not seen.finished


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"original": "12"}, {}),  # of another photo that was here
        ({"made": None}, {}),  # a copy
        ({"sha256": None}, {}),
        ({"made": Made("strength=0.5", "tiny")}, {}),
        ({}, {"overwrite": True}),
        ({"made": Made("", "tiny", "older")}, {"again": True}),
    ],
)
def test_a_photo_is_done_only_as_it_is_now_and_as_the_user_asks_for_it(
    beside: Shelf, changes: dict[str, Any], options: dict[str, Any]
) -> None:
    assert told(beside.recall(None, beside.standing(**changes), **options)) is None


def test_only_what_is_older_is_made_again(beside: Shelf) -> None:
    assert told(beside.recall(None, beside.standing(made=replace(beside.made, weights="older")))) == DONE
    assert told(beside.recall(None, beside.standing(), again=True)) == DONE


def test_an_output_that_is_gone_is_not_done(beside: Shelf) -> None:
    beside.task.target.unlink()
    assert told(beside.recall(None, beside.standing())) is None


@pytest.mark.parametrize("appeared", [True, False])
def test_the_bytes_tell_whether_a_run_that_was_killed_had_finished(beside: Shelf, appeared: bool) -> None:
    write(beside.task.target, OUTPUT if appeared else OTHER)
    intent = Intent(sha256(OUTPUT), sha256(PHOTO), beside.made, "as it was meant")
    seen = beside.recall(None, beside.standing(sha256=None, made=None, intent=intent))
    assert told(seen) == ((Kind.RESTORED, "finished-later", "as it was meant") if appeared else None)
    assert seen.finished == appeared
    if seen.known is not None and seen.standing is not None:
        assert seen.known.model == "tiny"
        assert (seen.standing.sha256, seen.standing.intent) == (sha256(OUTPUT), None)


def test_an_output_of_another_photo_is_not_replaced(beside: Shelf) -> None:
    other = write(beside.photo.with_name("b.jpg"), OTHER)
    with pytest.raises(Collision, match="would replace that of"):
        beside.recall(None, beside.standing(source=other, original=sha256(OTHER)))
    assert told(beside.recall(None, beside.standing(source=other))) == DONE  # the same picture
    early = beside.recall(beside.attempt(Kind.SKIPPED, sha256=None), beside.standing(source=other))
    assert early.sha256 == sha256(PHOTO)
    other.unlink()
    assert told(beside.recall(None, beside.standing(source=other, original=sha256(OTHER)))) is None


def test_an_output_is_anothers_if_that_photo_still_exists_and_is_not_this_one(beside: Shelf) -> None:
    other, standing = write(beside.photo.with_name("b.jpg"), OTHER), beside.standing()
    assert not is_anothers(standing, beside.task)
    assert is_anothers(replace(standing, source=other), beside.task)
    moved = replace(standing, source=other, source_below=Path("../p/a.jpg"))
    assert not is_anothers(moved, beside.task)  # a copy of the library, with its outputs
    assert is_anothers(replace(moved, source_below=Path("../p/b.jpg")), beside.task)
    os.link(beside.photo, beside.photo.with_name("c.jpg"))
    assert not is_anothers(replace(standing, source=beside.photo.with_name("c.jpg")), beside.task)
    other.unlink()
    assert not is_anothers(replace(standing, source=other), beside.task)


SKIPPED = (Kind.SKIPPED, "good-already", "reason")


def test_a_skipped_photo_is_skipped_again_also_if_only_its_bytes_tell_it(beside: Shelf) -> None:
    said = beside.attempt(code="good-already")
    for attempt in (said, replace(said, stamp=None), replace(said, sha256=None)):
        seen = beside.recall(attempt)
        assert told(seen) == SKIPPED
        assert seen.known is not None
        assert seen.known.source == beside.photo
    assert told(beside.recall(replace(said, sha256=None), beside.standing(made=None))) == SKIPPED
    assert told(beside.recall(replace(said, stamp=None, sha256="12"))) is None


@pytest.mark.parametrize(
    ("kind", "code", "changes", "options", "skipped"),
    [
        (Kind.FAILED, "good-already", {}, {}, False),
        (Kind.PUT_BACK, "good-already", {}, {}, False),
        (Kind.SKIPPED, Code.OUTPUT_EXISTS_ALREADY, {}, {}, False),
        (Kind.SKIPPED, "good-already", {}, {"overwrite": True}, False),
        (Kind.SKIPPED, "good-already", {"asked": "min_qf=50"}, {}, False),
        (Kind.SKIPPED, "good-already", {}, {"again": True}, True),
        (Kind.SKIPPED, Code.RESTORED_BEFORE, {}, {"again": True}, False),
        (Kind.SKIPPED, Code.RESTORED_BEFORE, {}, {}, True),
        (Kind.SKIPPED, "good-already", {"made": Made("", "tiny", "older")}, {"again": True}, False),
        (Kind.SKIPPED, "good-already", {"made": Made("", "tiny", "older")}, {}, True),
    ],
)
def test_a_skipped_photo_is_looked_at_again_if_this_run_might_not_skip_it(
    beside: Shelf, kind: Kind, code: str, changes: dict[str, Any], options: dict[str, Any], skipped: bool
) -> None:
    assert (beside.recall(beside.attempt(kind, code, **changes), **options).known is not None) == skipped


@pytest.mark.parametrize("there", [True, False])
def test_a_skipped_photo_whose_copy_is_gone_is_copied_again(beside: Shelf, there: bool) -> None:
    if not there:
        beside.task.target.unlink()
    said = beside.attempt(code="good-already")
    copied = replace(said, outcome=replace(said.outcome, output=beside.task.target))
    assert told(beside.recall(copied)) == (SKIPPED if there else None)


def test_in_place_a_photo_that_is_our_own_output_is_done(in_place: Shelf) -> None:
    seen = in_place.recall(None, in_place.standing())
    assert (told(seen), seen.origin, seen.finished) == (DONE, None, False)


@pytest.mark.parametrize("options", [{"overwrite": True}, {"again": True}, {}])
def test_in_place_what_is_made_again_starts_from_the_original(in_place: Shelf, options: dict[str, Any]) -> None:
    made = replace(in_place.made, weights="older") if "again" in options else Made("strength=0.5", "tiny")
    standing = in_place.standing(made=made)
    for attempt in (None, in_place.attempt(code="restored-before")):
        seen = in_place.recall(attempt, standing, **options)
        assert (told(seen), seen.origin) == (None, Path("a.jpg"))


def test_in_place_a_run_that_was_killed_had_finished_if_the_photo_is_what_it_meant(in_place: Shelf) -> None:
    intent = Intent(sha256(OUTPUT), sha256(PHOTO), in_place.made, "as it was meant")
    seen = in_place.recall(None, in_place.standing(sha256=None, made=None, intent=intent))
    assert told(seen) == (Kind.RESTORED, "finished-later", "as it was meant")
    assert seen.finished
    assert seen.standing is not None
    assert (seen.standing.sha256, seen.standing.intent) == (sha256(OUTPUT), None)


def test_in_place_a_photo_that_was_edited_is_a_new_one(in_place: Shelf) -> None:
    write(in_place.photo, OTHER)
    seen = in_place.recall(None, in_place.standing())
    assert (told(seen), seen.origin) == (None, None)
    early = in_place.recall(in_place.attempt(code="good-already", sha256=None))
    assert told(early) == SKIPPED


@pytest.mark.parametrize("exists", [True, False])
def test_in_place_a_photo_that_was_moved_is_known_and_a_copy_of_it_is_not(in_place: Shelf, exists: bool) -> None:
    other = in_place.photo.with_name("b.jpg")
    if exists:
        write(other, OUTPUT)
    moved = in_place.standing(place=Path("b.jpg"), source=other)
    seen = in_place.recall(None, moved)
    assert told(seen) == (None if exists else DONE)
    assert seen.origin is None
    assert read_ledger(in_place.root).standing[Path("b.jpg")].source == (other if exists else in_place.photo)


def test_in_place_what_was_written_beside_a_photo_is_none_of_its_originals(in_place: Shelf) -> None:
    gone = in_place.photo.with_name("b.jpg")
    outputs = in_place.standing(place=Path("b.jpg"), source=gone, in_place=False)
    seen = in_place.recall(None, outputs, overwrite=True)
    assert (told(seen), seen.origin) == (None, None)
