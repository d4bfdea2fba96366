"""The journals of one run: whose they are, what they know of each other, and what they ask of a folder."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from codiff_batch import __version__
from codiff_batch.batch.journal import Journal, journal_path
from codiff_batch.batch.journals import UNKNOWN_SHAPE, Folder, Journals, folders_of
from codiff_batch.batch.ledger import read_ledger
from codiff_batch.batch.marks import Holds, read_mark
from codiff_batch.batch.migration import old_digest
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.batch.plan import Task
from codiff_batch.batch.rows import Attempt, Made, Standing
from codiff_batch.batch.shard import Shard
from codiff_batch.engine.judge import RULE
from codiff_batch.errors import FolderLocked, FolderUnavailable, JournalDamaged, OptionsConflict, Role
from codiff_batch.models.card import read_card
from codiff_batch.settings import Judging, Settings
from tests.photos import write
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def options(model: Path) -> BatchOptions:
    return BatchOptions(model=str(model), settings=Settings(strength=0.5), judging=Judging(min_qf=50))


def task(folder: Path, name: str = "a.jpg") -> Task:
    return Task(Path("p", name), folder / name, folder / name, folder)


def attempt(name: str = "a.jpg", said: str = "") -> Attempt:
    return Attempt(
        Path(name), Path("p", name), None, None, "", Made("", "tiny"), Outcome(Path(name), None, Kind.FAILED, said)
    )


def test_each_folder_knows_where_its_photos_are_taken_from(tmp_path: Path) -> None:
    """In place, what undo may write to: where a link leads, not the folder that has the link."""
    photo = write(tmp_path / "p/a.jpg", b"x")
    other = write(tmp_path / "elsewhere/b.jpg", b"x")
    (tmp_path / "p/link").symlink_to(other.parent)
    listed, root = tmp_path / "p/link/b.jpg", tmp_path / "p"

    def planned(source: Path, folder: str, source_root: Path | None, backup: Path | None = None) -> Task:
        return Task(source, source, source, tmp_path / folder, backup, source_root=source_root)

    assert folders_of(
        [
            planned(photo, "kept", root, Path("kept/a.jpg")),
            planned(listed, "kept", root, Path("kept/link/b.jpg")),
            planned(listed, "beside", root),
            planned(photo, "another", None),
        ]
    ) == [
        Folder(tmp_path / "another", frozenset({photo}), 1),
        Folder(tmp_path / "beside", frozenset({root}), 1),
        Folder(tmp_path / "kept", frozenset({root, listed}), 2),
    ]


def test_while_a_run_is_open_its_folders_are_marked_and_locked_and_then_its_journals_are_whole(
    tmp_path: Path, options: BatchOptions
) -> None:
    folders = [Folder(tmp_path / name, frozenset({tmp_path}), 5) for name in ("one", "two")]
    with Journals(options, folders) as journals:
        for folder in folders:
            mark = read_mark(folder.path)
            assert mark is not None
            assert mark.holds is Holds.OUTPUTS
            with pytest.raises(FolderLocked):
                Journals(options, [folder])
        journals.of(task(tmp_path / "one")).record(attempt())
    assert not list(tmp_path.rglob("*.sqlite-*"))
    for folder, places in zip(folders, ({Path("a.jpg")}, set()), strict=True):
        ledger = read_ledger(folder.path)
        assert set(ledger.attempts) == places
        (latest,) = ledger.runs
        assert (latest.run.model, latest.run.photos) == (f"tiny@{journals.made.weights}", 5)
        assert latest.run.ended is not None
        assert list(ledger.roots) == [tmp_path]
    Journals(options, folders).__exit__(None, None, None)


def test_what_a_helper_process_did_is_the_runs_own(tmp_path: Path, options: BatchOptions) -> None:
    with Journals(options, [Folder(tmp_path, frozenset(), 3)]), Journals.join(options, [tmp_path, tmp_path]) as helper:
        helper.of(task(tmp_path)).record(attempt())
    (latest,) = read_ledger(tmp_path).runs
    assert [said.place for said in latest.attempts] == [Path("a.jpg")]
    assert latest.run.photos == 3


def test_in_place_a_folder_is_for_backups(tmp_path: Path, options: BatchOptions) -> None:
    kept = Folder(tmp_path / "kept", frozenset())
    with Journals(replace(options, in_place=True), [kept]):
        pass
    mark = read_mark(kept.path)
    assert mark is not None
    assert mark.holds is Holds.BACKUPS
    with pytest.raises(OptionsConflict):
        Journals(options, [kept])
    Journals(replace(options, in_place=True), [kept]).__exit__(None, None, None)  # nothing stayed locked


def test_a_folder_that_turns_out_to_be_of_no_use_is_left_without_a_mark(tmp_path: Path, options: BatchOptions) -> None:
    photo = write(tmp_path / "p/a.jpg", b"x")
    (tmp_path / "again").symlink_to("p")
    with pytest.raises(OptionsConflict, match="among the photos"):
        Journals(options, [Folder(tmp_path / "again", frozenset({photo.parent}))])
    assert sorted(path.name for path in photo.parent.iterdir()) == ["a.jpg"]


def test_all_folders_are_looked_for_before_one_is_touched(tmp_path: Path, options: BatchOptions) -> None:
    gone = Folder(tmp_path / "gone", frozenset())
    with Journals(options, [gone]):
        pass
    for path in sorted((tmp_path / "gone").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(FolderUnavailable, match="is its disk mounted"):
        Journals(options, [Folder(tmp_path / "fresh", frozenset()), gone])
    assert not (tmp_path / "fresh").exists()
    with Journals(replace(options, new_folder=True), [gone]):
        pass


@pytest.mark.parametrize(("in_place", "role"), [(False, Role.OUTPUT), (True, Role.BACKUP)])
def test_a_folder_that_cannot_be_made_names_what_it_was_for(
    tmp_path: Path, options: BatchOptions, in_place: bool, role: Role
) -> None:
    write(tmp_path / "file", b"x")
    with pytest.raises(FolderUnavailable, match="cannot write to") as refused:
        Journals(replace(options, in_place=in_place), [Folder(tmp_path / "file/out", frozenset())])
    assert refused.value.remedies == (role,)


def test_a_file_where_the_journals_would_be_is_told(tmp_path: Path, options: BatchOptions) -> None:
    write(tmp_path / "out/.codiff-batch", b"x")
    with pytest.raises(FolderUnavailable, match="cannot write to"):
        Journals(options, [Folder(tmp_path / "out", frozenset())])


def test_a_new_folder_has_the_mode_of_the_folder_that_its_photos_come_from(
    tmp_path: Path, options: BatchOptions
) -> None:
    photo = write(tmp_path / "a.jpg", b"x")
    (tmp_path / "private").mkdir(mode=0o700)
    with Journals(options, [Folder(tmp_path / "out", frozenset({photo, tmp_path / "private"}))]):
        pass
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("later", ["all", "1-of-2", "2-of-2"])
def test_what_the_shard_wrote_that_came_last_is_believed(tmp_path: Path, options: BatchOptions, later: str) -> None:
    owners = [owner for owner in ("all", "1-of-2", "2-of-2") if owner != later]
    for owner in (*owners, later):
        journal = Journal(journal_path(tmp_path, owner))
        journal.record(attempt(said=owner), Standing(Path("a.jpg"), Path("p/a.jpg"), False, owner))
        journal.close()
    for shard in (None, Shard(1, 2), Shard(2, 2)):
        with Journals(replace(options, shard=shard), [Folder(tmp_path, frozenset())]) as journals:
            attempted, standing = journals.attempt(task(tmp_path)), journals.standing(task(tmp_path))
            assert attempted is not None
            assert standing is not None
            assert (attempted.outcome.reason, standing.original) == (later, later)
            assert (journals.attempt(task(tmp_path, "b.jpg")), journals.standing(task(tmp_path, "b.jpg"))) == (
                None,
                None,
            )


def test_another_shards_journal_that_is_damaged_is_not_passed_over(tmp_path: Path, options: BatchOptions) -> None:
    write(journal_path(tmp_path, "1-of-2"), b"no journal" * 1000)
    with pytest.raises(JournalDamaged):
        Journals(options, [Folder(tmp_path, frozenset())])


def test_what_the_user_asks_for_is_compared_with_what_was_made(
    tmp_path: Path, options: BatchOptions, model: Path
) -> None:
    with Journals(options, ()) as journals:
        made = Made("strength=0.5", "tiny", read_card(model).digest, RULE, __version__)
        assert journals.made == made
        assert not journals.is_outdated(made)
        for older in (replace(made, weights=""), replace(made, rule=RULE - 1), replace(made, program="")):
            assert journals.made_alike(older)
            assert journals.is_outdated(older)
        for shape in (old_digest(options), UNKNOWN_SHAPE):
            assert journals.made_alike(replace(made, shape=shape))
        assert not journals.made_alike(replace(made, shape=""))
        assert not journals.made_alike(replace(made, model="other"))

        said = replace(attempt(), asked="strength=0.5 min_qf=50", made=made)
        assert journals.asked_alike(said)
        assert journals.asked_alike(replace(said, asked=old_digest(options)))
        assert not journals.asked_alike(replace(said, asked="strength=0.5"))
        assert not journals.asked_alike(replace(said, made=replace(made, model="other")))


def test_files_of_a_killed_run_are_counted_when_they_are_removed(
    tmp_path: Path, options: BatchOptions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Journals(options, [Folder(tmp_path, frozenset())]) as journals:
        journals.sweep([task(tmp_path)])
        assert caplog.messages == []
        write(tmp_path / ".codiff-batch-all-abc.tmp", b"half")
        journals.sweep([task(tmp_path)])
    assert caplog.messages == ["removed 1 temporary files of a run that was killed"]
