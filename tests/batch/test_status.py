"""Every number of status is right, at any moment and for whoever asks."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from codiff_batch import __version__
from codiff_batch.batch.journal import Journal, journal_path
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.batch.rows import Attempt, Made, Standing
from codiff_batch.batch.status import read_status
from codiff_batch.engine.judge import RULE
from codiff_batch.models.card import read_card
from tests.faults.nobody import needs_open_clone
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def photos(folder: Path, count: int) -> Path:
    for index in range(count):
        write(folder / f"{index}.jpg", jpeg(15, image=scene(seed=index)))
    return folder


def test_before_the_first_photo_nothing_is_known_but_how_much_is_left(run, tmp_path: Path) -> None:
    with contextlib.closing(Journal(journal_path(tmp_path, "all"))) as journal:
        journal.begin("tiny@1", 6, [])
    ran = run("status", tmp_path)
    assert ran.code == 0
    assert ran.out.startswith("0 restored, 0 skipped, 0 failed, 6 left\n")
    assert "min to go" not in ran.out


@pytest.mark.slow
def test_each_of_several_folders_counts_its_own(run, tmp_path: Path, model: Path) -> None:
    one, two = photos(tmp_path / "one", 2), photos(tmp_path / "two", 3)
    assert run(one, two, "--model", model).code == 0
    assert run("status", one).out.startswith("2 restored, 0 skipped, 0 failed, 0 left")
    assert run("status", two).out.startswith("3 restored, 0 skipped, 0 failed, 0 left")


@pytest.mark.slow
def test_failures_of_deleted_photos_are_forgotten(run, tmp_path: Path, model: Path) -> None:
    folder = photos(tmp_path / "p", 2)
    bad = write(folder / "bad.jpg", b"no photo")
    assert run(folder, "--model", model, "-o", tmp_path / "out").code == 3
    assert "1 failed" in run("status", tmp_path / "out").out
    bad.unlink()
    (folder / "0.jpg").unlink()
    assert run("status", tmp_path / "out").out.startswith("2 restored, 0 skipped, 0 failed")
    run("report", tmp_path / "out", "-o", tmp_path / "report.json")
    assert len(json.loads((tmp_path / "report.json").read_text())) == 2


def attempt(name: str, kind: Kind, code: str = "", *, megapixels: int = 1) -> Attempt:
    outcome = Outcome(Path(name), None, kind, "", code, width=1000, height=1000 * megapixels)
    return Attempt(Path(name), Path(name), None, None, "", Made("", "tiny"), outcome)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that journals write down."""
    now = [1000.0]
    monkeypatch.setattr("codiff_batch.batch.journal.time.time", lambda: now[0])
    return now


def test_rates_and_what_is_left_are_those_of_the_latest_run(tmp_path: Path, now: list[float]) -> None:
    with contextlib.closing(Journal(journal_path(tmp_path, "all"))) as journal:
        for began, photos, names in ((1000.0, 2, "ab"), (2000.0, 10, "cd")):
            now[0] = began
            journal.begin("tiny@1", photos, [])
            now[0] += 4
            journal.record(attempt(names[0], Kind.RESTORED, megapixels=2))
            journal.record(attempt(names[1], Kind.SKIPPED, megapixels=8))
    status = read_status(tmp_path)
    assert status.counts == {"restored": 2, "skipped": 2}
    assert (status.photos_per_second, status.megapixels_per_second) == (0.5, 0.5)
    assert status.left == 8
    assert status.minutes_left == 8 / 0.5 / 60


def test_the_rate_of_a_run_counts_until_its_end_and_with_nothing_left_there_is_nothing_to_wait_for(
    tmp_path: Path, now: list[float]
) -> None:
    with contextlib.closing(Journal(journal_path(tmp_path, "all"))) as journal:
        journal.begin("tiny@1", 2, [])
        assert read_status(tmp_path).photos_per_second == 0
        for name in "ab":
            journal.record(attempt(name, Kind.RESTORED))
        now[0] += 0.5
        journal.end()
    status = read_status(tmp_path)
    assert (status.photos_per_second, status.megapixels_per_second) == (4, 4)
    assert (status.left, status.minutes_left) == (0, None)


def test_reasons_are_those_of_skipped_photos(tmp_path: Path) -> None:
    with contextlib.closing(Journal(journal_path(tmp_path, "all"))) as journal:
        journal.begin("tiny@1", 4, [])
        for name, code in (("a", "good-already"), ("b", "good-already"), ("c", "signed")):
            journal.record(attempt(name, Kind.SKIPPED, code))
        journal.record(attempt("d", Kind.RESTORED, "bad-header"))
    assert read_status(tmp_path).reasons == {"good already": 2, "signed": 1}


def test_shards_work_side_by_side(tmp_path: Path, now: list[float]) -> None:
    for owner, photos, seconds in (("1-of-2", 6, 4), ("2-of-2", 3, 2)):
        now[0] = 1000.0
        with contextlib.closing(Journal(journal_path(tmp_path, owner))) as journal:
            journal.begin("tiny@1", photos, [])
            now[0] += seconds
            for name in "ab":
                journal.record(attempt(f"{owner}/{name}", Kind.RESTORED))
    status = read_status(tmp_path)
    assert status.left == 4 + 1
    assert (status.photos_per_second, status.megapixels_per_second) == (1, 1)


def test_shards_and_the_whole_are_runs_of_their_own(tmp_path: Path, now: list[float]) -> None:
    """Whichever came last is under way; both together were never asked for."""
    assert read_models(tmp_path, now, "1-of-2", "all", "2-of-2") == {"1-of-2", "2-of-2"}
    assert read_models(tmp_path, now, "all") == {"all"}


def read_models(folder: Path, now: list[float], *owners: str) -> set[str]:
    """Begin runs, one after the other, and say which of them status takes for the latest."""
    for owner in owners:
        now[0] += 10
        with contextlib.closing(Journal(journal_path(folder, owner))) as journal:
            journal.begin(owner, 1, [])
    return {run.model for run in read_status(folder).runs}


def test_a_journal_without_a_run_says_nothing(tmp_path: Path) -> None:
    Journal(journal_path(tmp_path, "all")).close()
    status = read_status(tmp_path)
    assert (status.counts, status.runs, status.left) == ({}, [], 0)


@pytest.mark.parametrize("plans", [(6, None), (None, 6), (None, None)])
def test_how_much_is_left_is_not_known_where_one_of_several_does_not_know_it(
    tmp_path: Path, plans: tuple[int | None, int | None]
) -> None:
    for index, photos in enumerate(plans, 1):
        with contextlib.closing(Journal(journal_path(tmp_path, f"{index}-of-2"))) as journal:
            journal.begin("tiny@1", photos, [])
    status = read_status(tmp_path)
    assert (status.left, status.minutes_left) == (None, None)


def test_what_an_older_model_rule_or_version_made_is_counted(run, tmp_path: Path, model: Path) -> None:
    weights = read_card(model).digest
    good = Made("", str(model), weights, RULE, __version__)
    made = {
        "as now": good,
        "by another model that is gone": replace(good, model="no-such-model", weights="1"),
        "by older weights": replace(good, weights="1"),
        "by an older rule": replace(good, rule=RULE - 1),
        "by an older program": replace(good, program="an older one"),
        "not at all": None,
    }
    with contextlib.closing(Journal(journal_path(tmp_path / "out", "all"))) as journal:
        journal.begin("tiny@1", len(made), [])
        for name, how in made.items():
            journal.stand(Standing(Path(name), Path("photos", name), False, "12", "34", how))
    assert read_status(tmp_path / "out").outdated == 3
    assert "\n3 made by an older model or version; --again redoes them\n" in run("status", tmp_path / "out").out


@pytest.mark.parametrize("failures", [10, 11])
def test_only_the_first_ten_failures_are_named(run, tmp_path: Path, failures: int) -> None:
    with contextlib.closing(Journal(journal_path(tmp_path, "all"))) as journal:
        journal.begin("tiny@1", failures, [])
        for index in range(failures):
            photo = write(tmp_path / f"{index}.jpg", b"no photo")
            journal.record(replace(attempt(photo.name, Kind.FAILED), source=photo))
    lines = run("status", tmp_path).out.splitlines()
    assert sum(line.startswith("  failed: ") for line in lines) == 10
    assert [line for line in lines if "more" in line] == (["  ... and 1 more (see --json)"] if failures > 10 else [])


@pytest.mark.slow
def test_what_was_known_before_counts_as_done(run, tmp_path: Path, model: Path) -> None:
    folder = photos(tmp_path / "p", 2)
    run(folder, "--model", model)
    os.utime(folder / "0.jpg")
    run(folder, "--model", model)
    assert run("status", folder).out.startswith("2 restored, 0 skipped, 0 failed, 0 left")


@pytest.mark.slow
@needs_open_clone
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_somebody_who_may_only_read_can_ask(run, tmp_path_factory: pytest.TempPathFactory, model: Path) -> None:
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="codiff-status-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        run(photos(folder / "p", 1), "-o", folder / "out", "--model", model)
        # A run that was killed leaves its last words beside the journal.
        (path,) = (folder / "out/.codiff-batch").glob("journal-all.sqlite")
        with contextlib.closing(Journal(path)) as journal:
            journal.begin("tiny@1", 1, [])
            code = (
                "import sys, os, tomllib, codiff_batch.cli.main as m, codiff_batch.cli.journal_commands, "
                "codiff_batch.batch.status\n"
                "os.setgid(65534); os.setuid(65534)\n"
                f"m.main(['status', {str(folder / 'out')!r}])"
            )
            ran = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                cwd="/tmp",
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith("1 restored")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("UPDATE runs SET started = 'yesterday'", 4),
        ("UPDATE runs SET started = 1e300", 4),
        ("UPDATE runs SET photos = 'many'", 4),
        ("UPDATE runs SET model = x'ff00'", 4),
        ("UPDATE standing SET place = x'612f00', source = x'2f6100'", 4),
        ("UPDATE attempts SET source = x'2f6100'", 0),
        ("UPDATE attempts SET outcome = 7", 0),
        ("UPDATE attempts SET outcome = '{'", 0),
        ("UPDATE runs SET roots = replace(hex(zeroblob(50000)), '0', '[')", 0),
        ("UPDATE attempts SET outcome = replace(hex(zeroblob(50000)), '0', '[')", 0),
    ],
)
def test_whatever_a_journal_says_ends_in_one_line(run, tmp_path: Path, model: Path, change: str, code: int) -> None:
    folder, kept = photos(tmp_path / "p", 1), tmp_path / "kept"
    run(folder, "--in-place", "--backup", kept, "--model", model)
    with contextlib.closing(sqlite3.connect(journal_path(kept, "all"))) as database:
        database.execute(change)
        database.commit()
    for ran in (run("status", kept), run("status", "--json", kept), run("undo", kept)):
        assert ran.code == code
        assert ran.err.count("\n") <= 1
    if code:
        assert "is damaged" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
def test_a_pipe_in_place_of_a_file_of_the_journal_holds_nobody_up(tmp_path: Path, end: str) -> None:
    path = journal_path(tmp_path, "all")
    Journal(path).close()
    beside = path.with_name(path.name + end)
    beside.unlink(missing_ok=True)
    os.mkfifo(beside)
    command = [sys.executable, "-m", "codiff_batch", "status", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert ran.stderr.count("\n") <= 1
    assert "Traceback" not in ran.stderr
