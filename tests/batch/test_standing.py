"""The two facts of a photo: what stands on disk because of us, and what the last attempt said."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codiff_batch.batch import journal as journal_module
from codiff_batch.batch import recall
from codiff_batch.batch.journal import Journal, journal_path, journals_in
from codiff_batch.batch.ledger import read_journal, read_ledger
from codiff_batch.batch.outcome import Code, Kind, Outcome
from codiff_batch.batch.rows import Attempt, Intent, Made, Standing
from codiff_batch.errors import FolderUnavailable, JournalDamaged, JournalNewer
from codiff_batch.files.identity import Stamp
from codiff_batch.files.reading import Contents, sha256
from codiff_batch.jpeg import JpegPhoto
from tests.cli.test_restore import tree
from tests.jpeg.samples import with_segments
from tests.jpeg.test_carrying import c2pa
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "other")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(2):
        write(tmp_path / f"photos/{index}.jpg", jpeg(15 + index, image=scene(seed=index)))
    return tmp_path / "photos"


def contents(folder: Path) -> dict[str, str]:
    return {name: digest for name, (digest, _) in tree(folder).items()}


@pytest.mark.slow
@pytest.mark.parametrize("later", ["other options", "another line", "touched", "copied", "torn"])
def test_undo_brings_everything_back_whatever_came_after(
    run, photos: Path, tmp_path: Path, model: Path, later: str
) -> None:
    before = contents(photos)
    arguments = (photos, "--in-place", "--backup", tmp_path / "kept", "--model", model)
    run(*arguments)
    if later == "other options":
        run(*arguments, "--strength", 0.5)
    elif later == "another line":
        run(*arguments, "--min-qf", 5)
    elif later == "torn":
        data = (photos / "0.jpg").read_bytes()
        write(photos / "0.jpg", data[:500])
        run(*arguments)
        write(photos / "0.jpg", data)
    else:
        if later == "touched":
            os.utime(photos / "0.jpg")
        else:
            shutil.copytree(photos, tmp_path / "copy")
            shutil.rmtree(photos)
            (tmp_path / "copy").rename(photos)
        assert "done before" in run(*arguments).err
    ran = run("undo", tmp_path / "kept")
    assert ran.code == 0
    assert "2 originals put back, 0 failed" in ran.err
    assert contents(photos) == before


@pytest.mark.slow
def test_other_options_start_from_the_original(run, photos: Path, tmp_path: Path, model: Path) -> None:
    shutil.copytree(photos, tmp_path / "same")
    arguments = ("--in-place", "--model", model)
    run(photos, *arguments, "--backup", tmp_path / "kept")
    ran = run(photos, *arguments, "--backup", tmp_path / "kept", "--strength", 0.5)
    assert "2 restored" in ran.err
    run(tmp_path / "same", *arguments, "--backup", tmp_path / "kept2", "--strength", 0.5)
    assert contents(photos) == contents(tmp_path / "same")


@pytest.mark.slow
def test_options_there_and_back_again(run, photos: Path, model: Path, other_model: Path) -> None:
    restored = photos.with_name("photos-restored")
    run(photos, "--model", model)
    once = contents(restored)
    assert "2 skipped" in run(photos, "--model", model, "--min-qf", 5).err
    assert contents(restored) == once
    assert "2 restored" in run(photos, "--model", other_model, "--strength", 0.9).err
    assert "2 restored" in run(photos, "--model", model).err
    assert contents(restored) == once


@pytest.mark.slow
def test_a_failed_attempt_does_not_make_an_output_somebody_elses(run, photos: Path, model: Path) -> None:
    run(photos, "--model", model)
    new = jpeg(12, image=scene(seed=9))
    write(photos / "0.jpg", new[: len(new) // 2])
    assert "1 failed" in run(photos, "--model", model).err
    write(photos / "0.jpg", new)
    assert "1 restored, 1 skipped, 0 failed" in run(photos, "--model", model).err


@pytest.mark.slow
def test_inode_numbers_that_change_are_no_change(
    run, photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, "--model", model)
    of = Stamp.of
    monkeypatch.setattr(Stamp, "of", lambda found: replace(of(found), inode=of(found).inode + 1000))
    assert "0 restored, 2 skipped" in run(photos, "--model", model).err


@pytest.mark.slow
def test_a_library_that_moved_with_its_outputs_is_known(run, photos: Path, tmp_path: Path, model: Path) -> None:
    run(photos, "--model", model, "-o", tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    photos.rename(tmp_path / "elsewhere/photos")
    (tmp_path / "out").rename(tmp_path / "elsewhere/out")
    ran = run(tmp_path / "elsewhere/photos", "--model", model, "-o", tmp_path / "elsewhere/out")
    assert "0 restored, 2 skipped" in ran.err


@pytest.mark.slow
def test_a_photo_that_was_moved_after_it_was_restored_is_known(run, photos: Path, tmp_path: Path, model: Path) -> None:
    original = (photos / "0.jpg").read_bytes()
    arguments = (photos, "--in-place", "--backup", tmp_path / "kept", "--model", model)
    run(*arguments)
    (photos / "best").mkdir()
    (photos / "0.jpg").rename(photos / "best/mine.jpg")
    for _ in range(2):
        assert "0 restored, 2 skipped" in run(*arguments).err
    assert run("undo", tmp_path / "kept").code == 0
    assert (photos / "best/mine.jpg").read_bytes() == original
    assert not (photos / "0.jpg").exists()


@pytest.mark.slow
def test_another_photos_output_is_a_failure_with_both_names(run, photos: Path, tmp_path: Path, model: Path) -> None:
    run(photos / "0.jpg", "--model", model, "-o", tmp_path / "out")
    other = write(tmp_path / "more/0.jpg", jpeg(20, image=scene(seed=8)))
    before = contents(tmp_path / "out")
    for options in ((), ("--overwrite",)):
        ran = run(other, "--model", model, "-o", tmp_path / "out", *options)
        assert ran.code == 3
        assert str(other) in ran.err
        assert str(photos / "0.jpg") in ran.err
    assert contents(tmp_path / "out") == before


@pytest.mark.slow
def test_an_output_that_was_given_anothers_name_is_not_overwritten(run, photos: Path, model: Path) -> None:
    """So it is on a disk that ignores case, where ``A.jpg`` and ``a.jpg`` are one output of two photos."""
    run(photos, "--model", model)
    restored = photos.with_name("photos-restored")
    (restored / "0.jpg").rename(restored / "1.jpg")
    before = contents(restored)
    ran = run(photos / "1.jpg", "-o", restored, "--model", model, "--overwrite")
    assert ran.code == 3
    assert str(photos / "0.jpg") in ran.err
    assert contents(restored) == before


@pytest.mark.slow
def test_an_update_of_the_program_redoes_nothing_until_asked(run, photos: Path, model: Path, monkeypatch) -> None:
    run(photos, "--model", model)
    monkeypatch.setattr("codiff_batch.batch.journals.__version__", "99")
    monkeypatch.setattr("codiff_batch.batch.status.__version__", "99")
    assert "0 restored, 2 skipped" in run(photos, "--model", model).err
    assert "2 made by an older model or version" in run("status", photos).out
    assert "2 restored" in run(photos, "--model", model, "--again").err
    assert "older" not in run("status", photos).out
    assert "0 restored, 2 skipped" in run(photos, "--model", model, "--again").err


@pytest.mark.slow
def test_shards_and_the_whole_know_each_others_outputs(run, photos: Path, tmp_path: Path, model: Path) -> None:
    out = ("-o", tmp_path / "out", "--model", model)
    run(photos, *out, "--shard", "1/2")
    run(photos, *out, "--shard", "2/2")
    assert run("status", tmp_path / "out").out.startswith("2 restored, 0 skipped, 0 failed, 0 left")
    assert "0 restored, 2 skipped" in run(photos, *out).err
    assert "2 restored" in run(photos, *out, "--strength", 0.5).err
    assert run("status", tmp_path / "out").out.startswith("2 restored, 0 skipped, 0 failed, 0 left")


STANDING = Standing(Path("a.jpg"), Path("/p/a.jpg"), True, "00", "11", Made("", "m"))
INTENT = Intent("22", "00", Made("strength=0.5", "m"))
ATTEMPT = Attempt(
    *(Path("a.jpg"), Path("/p/a.jpg"), Stamp(1, 2, 3, 2**63, 5), "00", "", Made("", "m")),
    Outcome(Path("/p/a.jpg"), None, Kind.SKIPPED, "bad \udcff name", Code.SIGNED),
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(journal_path(tmp_path, "all"))


def test_a_redo_holds_both_digests_until_it_is_done(journal: Journal) -> None:
    journal.stand(STANDING)
    journal.stand(replace(STANDING, intent=INTENT))
    kept = journal.standing(Path("a.jpg"))
    assert kept is not None
    assert kept.digests == {"11", "22"}
    assert kept.settled("22") == replace(kept, sha256="22", made=INTENT.made, intent=None)
    assert kept.settled("11") == replace(kept, intent=None)


def test_what_appeared_was_made_from_the_photo_that_was_there_then() -> None:
    first = Standing(Path("a.jpg"), Path("/p/a.jpg"), False, "00", intent=replace(INTENT, original="33"))
    assert first.digests == {"22"}
    appeared = first.settled("22")
    assert (appeared.original, appeared.sha256, appeared.made) == ("33", "22", INTENT.made)
    assert first.settled(None).digests == frozenset()


def test_an_attempt_leaves_what_stands_as_it_is(journal: Journal) -> None:
    journal.stand(STANDING)
    journal.record(ATTEMPT)
    kept, said = journal.standing(Path("a.jpg")), journal.attempt(Path("a.jpg"))
    assert kept is not None
    assert replace(kept, written=0.0) == STANDING
    assert said is not None
    assert replace(said, ended=0.0) == ATTEMPT


def test_what_waits_is_committed_when_the_journal_is_closed(journal: Journal) -> None:
    journal.record(ATTEMPT)
    journal.close()
    with contextlib.closing(Journal(journal.path)) as again:
        assert again.attempt(Path("a.jpg")) is not None


def test_a_write_that_the_disk_refused_does_not_stop_the_next(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(journal_module, "put_standing", full)
        with pytest.raises(FolderUnavailable, match="disk is full"):
            journal.record(ATTEMPT, STANDING)
    assert read_ledger(journal.path.parent.parent).attempts == {}
    journal.stand(STANDING)
    assert journal.standing(Path("a.jpg")) is not None
    journal.flush()
    assert read_ledger(journal.path.parent.parent).attempts


def test_attempts_are_committed_while_nothing_else_happens(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "COMMIT_SECONDS", 0.05)
    journal.begin("m", 1, [])
    journal.record(ATTEMPT)
    end = time.monotonic() + 20
    while not read_ledger(journal.path.parent.parent).attempts and time.monotonic() < end:
        time.sleep(0.02)
    assert read_ledger(journal.path.parent.parent).attempts


class Locked:
    """Something that is only touched by whoever holds the journal's lock."""

    def __init__(self, journal: Journal, what: Any) -> None:
        self._journal, self._what = journal, what

    def __getattr__(self, name: str) -> Any:
        assert self._journal._lock._is_owned()  # type: ignore[attr-defined]
        return getattr(self._what, name)

    def __bool__(self) -> bool:
        return bool(self._what)

    def __setitem__(self, key: bytes, value: Attempt) -> None:
        self.__getattr__("__setitem__")(key, value)


def test_whatever_threads_share_is_touched_under_the_lock(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = journal._soon
    journal._database, journal._waiting = Locked(journal, journal._database), Locked(journal, journal._waiting)  # type: ignore[assignment]
    monkeypatch.setattr(journal, "_soon", lambda: soon() if journal._lock._is_owned() else pytest.fail("no lock"))  # type: ignore[attr-defined]
    journal.begin("m", 1, [])
    journal.join()
    journal.record(ATTEMPT)
    assert journal.attempt(ATTEMPT.place) is not None
    journal.record(ATTEMPT, STANDING)
    journal.count_known()
    journal.flush()
    assert journal.attempt(ATTEMPT.place) is not None
    assert journal.standing(STANDING.place) == journal.standing_with(str(STANDING.sha256))
    journal.stand(STANDING)
    journal.forget(STANDING.place)
    journal.end()
    journal.close()


def test_an_attempt_that_waits_keeps_no_other_process_out(journal: Journal) -> None:
    journal.begin("m", 1, [])
    journal.record(ATTEMPT)
    with contextlib.closing(sqlite3.connect(journal.path, timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")


def test_a_process_that_writes_is_waited_for(journal: Journal) -> None:
    other = sqlite3.connect(journal.path, check_same_thread=False, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    release.start()
    journal.stand(STANDING)
    release.join()
    assert journal.standing(Path("a.jpg")) is not None


def test_what_was_committed_is_not_written_again_over_another_process(journal: Journal) -> None:
    journal.record(ATTEMPT)
    journal.flush()
    with contextlib.closing(Journal(journal.path)) as other:
        other.record(replace(ATTEMPT, sha256="99"))
    journal.record(replace(ATTEMPT, place=Path("b.jpg")))
    journal.flush()
    said = journal.attempt(Path("a.jpg"))
    assert said is not None
    assert said.sha256 == "99"


def test_photos_that_an_earlier_run_finished_are_counted_once(journal: Journal) -> None:
    journal.begin("m", 3, [])
    for _ in range(2):
        journal.count_known()
        journal.flush()
    journal.record(ATTEMPT)
    journal.flush()
    run = journal_module.latest_run(journal._database)
    assert run is not None
    assert (run.known, run.photos) == (2, 3)


def test_a_helper_process_joins_the_run_that_began_last(journal: Journal) -> None:
    for photos in (1, 2):
        journal.begin("m", photos, [])
    with contextlib.closing(Journal(journal.path)) as helper:
        helper.join()
        helper.record(ATTEMPT, STANDING)
    run, said = journal_module.latest_run(journal._database), journal.attempt(Path("a.jpg"))
    assert run is not None
    assert said is not None
    assert (run.photos, said.run) == (2, run.id)
    journal.end()
    run = journal_module.latest_run(journal._database)
    assert run is not None
    assert run.ended is not None
    assert run.ended >= run.started


def test_what_is_written_is_durable_by_the_databases_own_word(journal: Journal) -> None:
    (full,) = journal._database.execute("PRAGMA synchronous").fetchone()
    (mode,) = journal._database.execute("PRAGMA journal_mode").fetchone()
    assert (full, mode) == (2, "wal")


def test_only_real_files_of_our_own_names_are_journals(journal: Journal) -> None:
    journal.close()
    journal.path.with_name("journal-1-of-2.sqlite").symlink_to(journal.path.name)
    for name in ("journal-all.sqlite.before-2026", "journal-zz.sqlite"):
        shutil.copy(journal.path, journal.path.with_name(name))
    assert journals_in(journal.path.parent.parent) == [journal.path]


@pytest.mark.parametrize("owners", [("all", "1-of-2"), ("1-of-2", "all")])
def test_of_two_shards_the_one_that_wrote_last_is_believed(tmp_path: Path, owners: tuple[str, str]) -> None:
    for owner, digest in zip(owners, ("11", "22"), strict=True):
        with contextlib.closing(Journal(journal_path(tmp_path, owner))) as journal:
            journal.stand(replace(STANDING, sha256=digest))
            journal.record(replace(ATTEMPT, sha256=digest), None)
    ledger = read_ledger(tmp_path)
    assert ledger.standing[Path("a.jpg")].sha256 == "22"
    assert ledger.attempts[Path("a.jpg")].sha256 == "22"


@pytest.mark.parametrize(
    ("change", "error"), [("PRAGMA user_version = 99", JournalNewer), ("DROP TABLE runs", JournalDamaged)]
)
def test_a_journal_that_is_not_of_this_version_is_not_read_as_if_it_were(
    journal: Journal, change: str, error: type[FolderUnavailable]
) -> None:
    journal.close()
    with contextlib.closing(sqlite3.connect(journal.path)) as database:
        database.execute(change)
    with pytest.raises(error):
        read_journal(journal.path)


def test_outputs_are_found_where_their_folder_lies_now(tmp_path: Path) -> None:
    outcome = replace(ATTEMPT.outcome, output=tmp_path / "before/a.jpg")
    with contextlib.closing(Journal(journal_path(tmp_path / "before", "all"))) as journal:
        journal.record(replace(ATTEMPT, outcome=outcome))
    (tmp_path / "before").rename(tmp_path / "now")
    attempt = read_ledger(tmp_path / "now").attempts[Path("a.jpg")]
    assert attempt.outcome.output == tmp_path / "now/a.jpg"


@pytest.mark.slow
def test_a_damaged_page_is_found_before_anything_is_written(tmp_path: Path) -> None:
    with contextlib.closing(Journal(path := journal_path(tmp_path, "all"))) as journal:
        for number in range(200):
            journal.stand(replace(STANDING, place=Path(f"{number:04}-{'x' * 200}.jpg")))
    data = bytearray(path.read_bytes())
    data[-8192:] = b"\xaa" * 8192
    path.write_bytes(data)
    with pytest.raises(JournalDamaged):
        Journal(path)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["status", "undo", "report", "run", "watch"])
@pytest.mark.parametrize("damage", ["overwritten", "truncated", "foreign", "future", "renamed column"])
def test_a_journal_that_cannot_be_used_is_one_line(
    run, photos: Path, tmp_path: Path, model: Path, damage: str, command: str
) -> None:
    out = tmp_path / "kept"
    with contextlib.closing(Journal(path := journal_path(out, "all"))) as journal:
        for number in range(200):
            journal.stand(replace(STANDING, place=Path(f"{number:04}-{'x' * 200}.jpg")))
    data = bytearray(path.read_bytes())
    if damage == "overwritten":
        data[8192:20480] = b"\xaa" * 12288
        path.write_bytes(data)
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        if damage == "foreign":
            path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as database:
            if damage == "foreign":
                database.execute("CREATE TABLE mine (a)")
            elif damage == "future":
                database.execute("PRAGMA user_version = 99")
            else:
                database.execute("ALTER TABLE standing RENAME COLUMN original TO first")
            database.commit()
    arguments = {
        "status": ("status", out),
        "undo": ("undo", out),
        "report": ("report", out, "-o", tmp_path / "r.html"),
        "run": (photos, "--in-place", "--backup", out, "--model", model),
        "watch": ("watch", photos, "--once", "--settle", 0, "--in-place", "--backup", out, "--model", model),
    }[command]
    before = contents(photos)
    ran = run(*arguments)
    assert ran.code == 4
    last = ran.err.strip().splitlines()[-1]
    assert ("newer codiff-batch" if damage == "future" else "is damaged; 'codiff-batch rebuild'") in last
    assert "Traceback" not in ran.err
    assert contents(photos) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [("-o", "out"), ("-o", "out", "--copy-skipped", "--min-qf", 1), ("--in-place", "--backup", "out")],
    ids=["beside", "copied", "in place"],
)
def test_names_are_kept_in_full_wherever_the_run_was_started(
    run, photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[object, ...]
) -> None:
    """The next run may start in another folder, or find the link gone that led to the photos."""
    monkeypatch.chdir(photos.parent)
    Path("link").symlink_to("photos")
    assert run("link", *place, "--model", model).code == 0
    ledger = read_ledger(Path("out"))
    assert len(ledger.standing) == len(ledger.attempts) == 2
    rows = (*ledger.standing.values(), *ledger.attempts.values())
    assert {row.source.parent for row in rows} == {photos.resolve()}
    outputs = {attempt.outcome.output for attempt in ledger.attempts.values()}
    assert all(output is not None and output.is_absolute() for output in outputs)
    if "-o" in place:
        Path("out").rename("moved")
        moved = read_ledger(Path("moved").resolve()).attempts.values()
        assert {attempt.outcome.output.parent for attempt in moved if attempt.outcome.output} == {
            Path("moved").resolve()
        }


@pytest.mark.slow
@pytest.mark.parametrize("place", [("-o", "out"), ("--in-place", "--backup", "out")], ids=["beside", "in place"])
def test_a_photo_that_is_as_it_was_is_not_read_again(
    run, photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[str, ...]
) -> None:
    monkeypatch.chdir(photos.parent)
    run(photos, *place, "--model", model)
    read, names = recall.read_whole, []

    def noted(path: Path, **named: Any) -> Contents:
        names.append(path.name)
        return read(path, **named)

    monkeypatch.setattr(recall, "read_whole", noted)
    ran = run(photos, *place, "--model", model)
    assert "2 skipped" in ran.err
    assert "done before" in ran.err
    assert names == []
    os.utime(photos / "1.jpg")
    for _ in range(2):
        assert "2 skipped" in run(photos, *place, "--model", model).err
    assert names == ["1.jpg"]


@pytest.mark.slow
def test_the_note_says_which_photo_it_was_made_from_and_how_bad_that_was(run, photos: Path, model: Path) -> None:
    originals = {path.name: sha256(path.read_bytes()) for path in photos.iterdir()}
    run(photos, "--model", model)
    for attempt in read_ledger(photos.with_name("photos-restored")).attempts.values():
        output = attempt.outcome.output
        assert output is not None
        note = JpegPhoto.open(output).metadata().restored_by
        assert f" model=tiny qf={attempt.outcome.estimated_qf:.0f} " in f"{note} "
        assert f" source={originals[output.name][:16]} " in f"{note} "


def test_of_two_photos_with_one_output_the_second_is_refused(run, photos: Path, model: Path) -> None:
    (photos / "1.jpg").rename(photos / "0.jpeg")
    told = run(photos, "--model", model, "--format", "png", "--dry-run").err
    assert "1 would be restored, 0 skipped, 1 failed" in told
    ran = run(photos, "--model", model, "--format", "png")
    assert ran.code == 3
    assert "1 restored, 0 skipped, 1 failed" in ran.err


@pytest.mark.slow
def test_a_signed_photo_is_left_alone_unless_told(run, photos: Path, model: Path) -> None:
    signed = with_segments(jpeg(15), c2pa(1, b"jumd c2pa manifest"))
    write(photos / "0.jpg", signed)
    ran = run(photos, "--model", model, "-v")
    assert "1 restored, 1 skipped" in ran.err
    assert "signed" in ran.err
    assert not (photos.with_name("photos-restored") / "0.jpg").exists()
    assert "1 restored, 1 skipped" in run(photos, "--model", model, "--include-signed").err
