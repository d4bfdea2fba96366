"""Journals that version 0.1 kept are read, brought up to date, and nothing is done again because of it.

``version_0_1/`` holds two real ones, as SQL, with the photos they are about: three restored photos and a torn one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from codiff_batch.batch.journal import Journal, journal_path
from codiff_batch.batch.ledger import read_ledger
from codiff_batch.batch.migration import migrate
from codiff_batch.batch.outcome import Kind
from codiff_batch.batch.status import read_status
from codiff_batch.files.reading import read_whole
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
