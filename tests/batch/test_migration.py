"""Journals that version 0.1 kept are read, brought up to date, and nothing is done again because of it.

``version_0_1/`` holds two real ones, as SQL, with the photos they are about: three restored photos and a torn one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from codiff_batch.batch.journal import Journal, Run, journal_path
from codiff_batch.batch.ledger import Ledger, read_ledger
from codiff_batch.batch.migration import migrate, old_digest
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Code, Kind, Outcome
from codiff_batch.batch.rows import Attempt, Intent, Made, Standing
from codiff_batch.batch.status import read_status
from codiff_batch.engine.judge import Ground
from codiff_batch.files.identity import Stamp
from codiff_batch.files.reading import read_whole, sha256
from codiff_batch.settings import Judging, Settings
from tests.cli.test_restore import tree
from tests.photos import jpeg, write
from tests.tiny_model import make_tiny_model

OLD = Path(__file__).parent / "version_0_1"
NAMES = ("0.jpg", "1.jpg", "2.jpg")


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The photos where version 0.1 left them: restored into ``photos-restored``, and in ``library`` in place."""
    for folder, content in (("photos", "photos"), ("photos-restored", "restored"), ("kept", "photos")):
        shutil.copytree(OLD / content, tmp_path / folder)
    lay_journal(tmp_path / "photos-restored", "photos-restored.sql", {"/album/photos": tmp_path / "photos"})
    monkeypatch.chdir(tmp_path)
    make_tiny_model(tmp_path / "tiny")
    return tmp_path


@pytest.fixture
def in_place(album: Path) -> Path:
    """The same photos, restored in place."""
    shutil.rmtree(album / "photos-restored")
    for name in NAMES:
        shutil.copy(OLD / "restored" / name, album / "photos" / name)
    lay_journal(album / "kept", "kept.sql", {"/album/photos": album / "photos"})
    return album


def lay_journal(folder: Path, name: str, moved: dict[str, Path]) -> Path:
    """Make a real file of a journal; its photos lie elsewhere now, and its outputs' names are as they were."""
    sql = (OLD / name).read_text()
    for before, after in moved.items():
        there = f"X'{os.fsencode(before + '/').hex().upper()}"
        sql = sql.replace(there, f"X'{os.fsencode(f'{after}/').hex().upper()}")
    path = journal_path(folder, "all")
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(sql)
    return path


def test_nothing_is_done_again_because_the_program_was_updated(run, album: Path) -> None:
    before = tree(album / "photos-restored")
    ran = run("photos", "--model", "./tiny")
    assert "0 restored, 3 skipped, 0 failed" in ran.err
    assert "done before" in ran.err
    after = tree(album / "photos-restored")
    assert {name: after[name] for name in NAMES} == {name: before[name] for name in NAMES}


def test_in_place_nothing_is_done_again_and_undo_works(run, in_place: Path) -> None:
    assert "0 restored, 3 skipped" in run("photos", "--in-place", "--backup", "kept", "--model", "./tiny").err
    assert run("undo", "kept", "1.jpg", "2.jpg", "0.jpg").code == 0
    for name in NAMES:
        assert (in_place / "photos" / name).read_bytes() == (OLD / "photos" / name).read_bytes()


def test_undo_is_the_first_command_after_the_update(run, in_place: Path) -> None:
    assert "3 originals put back" in run("undo", "kept", "?.jpg").err


def test_of_two_processes_that_bring_a_journal_up_to_date_one_finds_it_done(album: Path) -> None:
    path = journal_path(album / "photos-restored", "all")
    with contextlib.closing(sqlite3.connect(path, check_same_thread=False, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN IMMEDIATE")
        migrate(other, path)
        commit = threading.Timer(0.3, lambda: other.execute("COMMIT"))
        commit.start()
        with contextlib.closing(Journal(path)) as journal:
            assert journal.standing(Path("1.jpg")) is not None
        commit.join()


@pytest.mark.slow
def test_options_that_the_user_changes_are_done_again(run, album: Path) -> None:
    assert "3 restored" in run("photos", "--model", "./tiny", "--strength", 0.5).err


def test_reading_changes_no_file(run, album: Path) -> None:
    path = journal_path(album / "photos-restored", "all")
    before = path.read_bytes()
    told = run("status", "photos")
    assert told.out.startswith("4 restored, 0 skipped, 0 failed")
    assert path.read_bytes() == before


def test_what_stood_and_what_was_said_are_carried_over(album: Path) -> None:
    ledger = read_ledger(album / "photos-restored")
    standing = ledger.standing[Path("1.jpg")]
    assert standing.sha256 == read_whole(OLD / "restored/1.jpg").sha256
    assert standing.original == read_whole(OLD / "photos/1.jpg").sha256
    assert standing.source == album / "photos/1.jpg"
    attempt = ledger.attempts[Path("1.jpg")]
    told = attempt.outcome
    assert (told.outcome, told.width, told.height) == (Kind.RESTORED, 96, 64)
    assert ledger.attempts[Path("torn.jpg")].outcome.outcome is Kind.FAILED
    assert [run.photos for run in read_status(album / "photos-restored").runs] == [5]


def test_a_run_that_was_killed_under_the_old_version_is_finished(run, album: Path) -> None:
    with contextlib.closing(sqlite3.connect(journal_path(album / "photos-restored", "all"))) as database:
        database.execute("UPDATE photos SET outcome = 'writing'")
        database.commit()
    write(album / "photos-restored/2.jpg", b"not what was meant to appear")
    before = tree(album / "photos-restored")
    ran = run("photos", "--model", "./tiny")
    assert "2 restored, 1 skipped" in ran.err
    after = tree(album / "photos-restored")
    assert {name: after[name] for name in NAMES} == {name: before[name] for name in NAMES}


def test_odd_values_are_no_reason_to_stop(run, album: Path) -> None:
    with contextlib.closing(sqlite3.connect(journal_path(album / "photos-restored", "all"))) as database:
        database.execute("UPDATE photos SET seconds = 'x', header_qf = '<img>', width = 'a', mtime_ns = 1e300")
        database.commit()
    assert run("status", "photos").code == 0
    assert "0 restored, 3 skipped" in run("photos", "--model", "./tiny").err


def test_a_migration_that_fails_leaves_the_old_journal(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal_path(album / "photos-restored", "all")
    monkeypatch.setattr("codiff_batch.batch.migration._carry_over", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Journal(path)
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM photos").fetchone() == (5,)
        assert database.execute("PRAGMA user_version").fetchone() == (0,)


def test_an_old_backup_folder_without_a_mark_is_one_all_the_same(run, in_place: Path) -> None:
    write(in_place / "new/0.jpg", jpeg(20))
    assert run("kept", "--model", "./tiny").code == 2
    assert run("new", "-o", "kept", "--overwrite", "--model", "./tiny").code == 2


TABLES = """
  CREATE TABLE photos (
    source BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, outcome TEXT NOT NULL, reason TEXT NOT NULL,
    output BLOB, output_sha256 TEXT, backup BLOB, source_sha256 TEXT, model TEXT NOT NULL, options TEXT NOT NULL,
    header_qf REAL, estimated_qf REAL, width INTEGER, height INTEGER, seconds REAL, ended REAL NOT NULL,
    run INTEGER NOT NULL
  );
  CREATE TABLE runs (
    id INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, photos INTEGER, settled INTEGER NOT NULL DEFAULT 0,
    model TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL
  );
  INSERT INTO runs VALUES (3, 100.5, 200.5, 7, 2, 'tiny@12', 'studio', 42);
"""
NUMBERS = {"header_qf": 10.5, "estimated_qf": 4.5, "width": 96, "height": 64, "seconds": 1.5, "ended": 150.5, "run": 3}
DONE = {"outcome": "restored", "output_sha256": "34", "source_sha256": "12"}


def old_journal(folder: Path, *rows: dict[str, object]) -> Ledger:
    """What is carried over of rows as version 0.1 kept them; paths are given as text."""
    path = journal_path(folder, "all")
    path.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(TABLES)
        for row in rows:
            usual = {"outcome": "skipped", "reason": "", "model": "tiny@12", "options": "ab", "ended": 1.0, "run": 3}
            values = usual | {k: os.fsencode(v) if isinstance(v, Path) else v for k, v in row.items()}
            marks = ", ".join("?" * len(values))
            database.execute(f"INSERT INTO photos ({', '.join(values)}) VALUES ({marks})", [*values.values()])
        database.commit()
    return read_ledger(folder)


def test_every_number_is_carried_over(tmp_path: Path) -> None:
    source, output = Path("/p/a.jpg"), tmp_path / "a.jpg"
    stamp = {"size": 7, "mtime_ns": 8, "inode": 9}
    ledger = old_journal(tmp_path, {"source": source, "output": output, "reason": "bad", **stamp, **DONE, **NUMBERS})
    made, place = Made("0.1:ab", "tiny", "12", rule=1, program="0.1.0"), Path("a.jpg")
    assert ledger.standing == {place: Standing(place, source, False, "12", "34", made, written=150.5)}
    numbers = {name: value for name, value in NUMBERS.items() if name not in ("ended", "run")}
    told = Outcome(source, output, Kind.RESTORED, "bad", **numbers)
    assert ledger.attempts == {
        place: Attempt(place, source, Stamp(7, 8, 0, 9, 0), "12", "0.1:ab", made, told, 150.5, 3)
    }
    (latest,) = ledger.runs
    assert latest.run == Run(3, 100.5, 200.5, 7, 2, "tiny@12", "studio", 42)


def test_nothing_of_the_old_tables_stays_in_the_file(album: Path) -> None:
    path = journal_path(album / "photos-restored", "all")
    Journal(path).close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"runs", "standing", "attempts"}


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    odd = dict.fromkeys(("size", *NUMBERS), "odd")
    ledger = old_journal(tmp_path, {"source": Path("/p/a.jpg"), "output": tmp_path / "a.jpg", **odd, **DONE})
    (attempt,) = ledger.attempts.values()
    told = attempt.outcome
    assert (told.header_qf, told.estimated_qf, told.width, told.height, told.seconds) == (None, None, None, None, 0)
    assert (attempt.stamp, attempt.ended, attempt.run) == (None, 0, 0)
    assert ledger.standing[Path("a.jpg")].sha256 == "34"


@pytest.mark.parametrize(
    ("outcome", "reason", "kind", "code"),
    [
        ("restored", "header says QF 10", Kind.RESTORED, ""),
        ("skipped", "good already: pixels look like QF 90", Kind.SKIPPED, Ground.GOOD),
        ("skipped", "restored before: codiff-batch 0.1.0", Kind.SKIPPED, Code.RESTORED_BEFORE),
        ("skipped", "signed: a C2PA manifest", Kind.SKIPPED, Code.SIGNED),
        ("skipped", "output exists already, and is not ours", Kind.SKIPPED, Code.OUTPUT_EXISTS_ALREADY),
        ("failed", "output exists already, as a folder", Kind.FAILED, ""),
        ("undone", "", Kind.PUT_BACK, ""),
        ("something of later", "", Kind.FAILED, ""),
    ],
)
def test_every_reason_of_then_has_its_code_of_now(
    tmp_path: Path, outcome: str, reason: str, kind: Kind, code: str
) -> None:
    row = {"source": Path("/p/a.jpg"), "output": tmp_path / "a.jpg", "outcome": outcome, "reason": reason}
    told = old_journal(tmp_path, row).attempts[Path("a.jpg")].outcome
    assert (told.outcome, told.reason, told.code) == (kind, reason, code)


def test_in_place_a_photo_has_the_place_of_its_backup_also_once_it_was_put_back(tmp_path: Path) -> None:
    def row(name: str, **values: object) -> dict[str, object]:
        return {"source": Path("/p", name), "output": Path("/p", name), "backup": tmp_path / name, **DONE, **values}

    never = {"source": Path("/p/trip/c.jpg"), "outcome": "skipped"}
    ledger = old_journal(tmp_path, row("trip/a.jpg"), row("trip/b.jpg", outcome="undone"), never)
    assert {str(place): what.in_place for place, what in ledger.standing.items()} == {"trip/a.jpg": True}
    assert {str(place): said.sha256 for place, said in ledger.attempts.items()} == {
        "trip/a.jpg": "34",  # what the photo was when it was seen last: the restored one
        "trip/b.jpg": "12",
        "trip/c.jpg": None,
    }


def test_a_file_that_was_about_to_appear_is_an_intent(tmp_path: Path) -> None:
    row = {"source": Path("/p/a.jpg"), "output": tmp_path / "a.jpg", "reason": "bad", **DONE, "outcome": "writing"}
    ledger = old_journal(tmp_path, row | {"ended": 150.5})
    made = Made("0.1:ab", "tiny", "12", rule=1, program="0.1.0")
    intent = Intent("34", "12", made, "bad")
    place = Path("a.jpg")
    assert ledger.standing == {place: Standing(place, Path("/p/a.jpg"), False, "12", intent=intent, written=150.5)}
    assert ledger.attempts == {}


@pytest.mark.parametrize("missing", ["output_sha256", "source_sha256"])
def test_without_both_digests_nothing_is_known_to_stand(tmp_path: Path, missing: str) -> None:
    ledger = old_journal(tmp_path, {"source": Path("/p/a.jpg"), "output": tmp_path / "a.jpg", **DONE, missing: None})
    assert (ledger.standing, set(ledger.attempts)) == ({}, {Path("a.jpg")})


@pytest.mark.parametrize(
    ("output", "there", "place"),
    [
        ("/old/out/trip/a.jpg", "trip/a.jpg", "trip/a.jpg"),  # the folder lies elsewhere now
        ("/old/out/trip/a.jpg", "out/trip/a.jpg", "out/trip/a.jpg"),
        ("/far/b.jpg", "far/b.jpg", "far/b.jpg"),
        ("/old/out/trip/a.jpg", None, "trip/a.jpg"),  # as the photo's own
        ("/old/out/trip/a.png", None, "a.png"),
    ],
)
def test_an_output_is_found_in_a_folder_that_was_moved(
    tmp_path: Path, output: str, there: str | None, place: str
) -> None:
    if there:
        write(tmp_path / there, b"x")
    ledger = old_journal(tmp_path, {"source": Path("/p/trip/a.jpg"), "output": Path(output), **DONE})
    assert set(ledger.standing) == {Path(place)}


@pytest.mark.parametrize(
    ("name", "places"), [("out", {"trip/b.jpg", "c.jpg"}), ("q-restored", {"trip/b.jpg", "c.jpg", "d.jpg"})]
)
def test_a_photo_without_an_output_has_the_place_that_its_output_would_have(
    tmp_path: Path, name: str, places: set[str]
) -> None:
    folder = tmp_path / name
    rows = (
        {"source": Path("/p/trip/a.jpg"), "output": folder / "trip/a.jpg", **DONE},
        {"source": Path("/p/q/e.jpg"), "output": folder / "e.jpg", **DONE},
        {"source": Path("/q/x.jpg"), "output": folder / "deep/y.png", **DONE},
        {"source": Path("/q/z.jpg"), "outcome": "failed"},
        {"source": Path("/p/trip/b.jpg"), "outcome": "failed"},
        {"source": Path("/p/q/c.jpg"), "outcome": "failed"},  # the nearest of two folders
        {"source": tmp_path / "q/d.jpg", "outcome": "failed"},
        {"source": Path("/elsewhere/f.jpg"), "outcome": "failed"},
        {"source": b"", "output": folder / "g.jpg", **DONE},
        {"source": 7, "output": folder / "h.jpg", **DONE},
        {"source": None, "outcome": "restored", "output": Path("/old/g.jpg")},
    )
    ledger = old_journal(folder, *rows)
    assert {str(place) for place, said in ledger.attempts.items() if said.outcome.outcome is Kind.FAILED} == places
    assert {str(place) for place in ledger.standing} == {"trip/a.jpg", "e.jpg", "deep/y.png"}


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({}, BatchOptions()),
        ({"min_qf": 50.0}, BatchOptions(judging=Judging(min_qf=50.0))),
        ({"strength": 0.5, "copy_skipped": True}, BatchOptions(settings=Settings(strength=0.5), copy_skipped=True)),
        ({"quality": 96}, BatchOptions(quality=96)),
    ],
)
def test_options_have_the_digest_that_version_0_1_gave_them(then: dict[str, object], now: BatchOptions) -> None:
    options: dict[str, object] = {"min_qf": 60.0, "format": "same", "quality": 95, "strength": 1.0, "texture": 1.0}
    options |= {"constrain": True, "copy_skipped": False, "in_place": False, "include_signed": False}
    text = json.dumps(options | then)
    assert old_digest(now) == f"0.1:{sha256(text.encode())[:16]}"
