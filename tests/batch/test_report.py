"""The file of a report replaces an earlier one whole, and a pipe gets all of it."""

from __future__ import annotations

import csv
import os
import threading
from pathlib import Path

import pytest

from codiff_batch.batch.outcome import Kind, Outcome, Step
from codiff_batch.batch.report import as_json, check_report_path, rescue_report, write_report
from codiff_batch.errors import FolderUnavailable, Role
from tests.faults.nobody import as_nobody, folder_for_all, needs_permissions


def outcomes(count: int) -> list[Outcome]:
    return [Outcome(Path(f"{index}.jpg"), None, Kind.SKIPPED, "good already") for index in range(count)]


def test_a_report_takes_the_place_of_an_earlier_one_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    write_report(path, outcomes(3))
    os.link(path, tmp_path / "earlier.csv")
    write_report(path, outcomes(1))
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["source", "0.jpg"]
    assert len((tmp_path / "earlier.csv").read_text().splitlines()) == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_reader_who_is_slow_gets_the_whole_report(tmp_path: Path) -> None:
    pipe, told = tmp_path / "pipe", outcomes(2000)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = threading.Thread(target=write_report, args=(pipe, told), daemon=True)
    writer.start()
    writer.join(0.1)  # More than a pipe holds: the rest has to wait.
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as file:
        assert file.read().decode() == as_json(told)
    writer.join()
    assert pipe.is_fifo()


def test_a_table_has_a_column_for_whatever_fits_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    steps = {Step.READ: 0.5}
    write_report(path, [Outcome(Path("a.jpg"), None, Kind.SKIPPED, "good already", seconds=1 / 3, steps=steps)])
    columns, cells = csv.reader(path.read_text().splitlines())
    assert "steps" not in columns
    assert {name for name, cell in zip(columns, cells, strict=True) if cell} == {
        *("source", "outcome", "reason", "seconds")
    }
    assert cells[columns.index("seconds")] == "0.333"


@needs_permissions
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_that_may_not_be_written_into_is_refused_before_the_work() -> None:
    with folder_for_all() as folder:
        pipe = folder / "report"
        os.mkfifo(pipe)
        pipe.chmod(0o444)
        with as_nobody(), pytest.raises(FolderUnavailable, match="Permission denied") as refused:
            check_report_path(pipe)
        assert refused.value.remedies == (Role.REPORT,)
        with as_nobody(), pytest.raises(PermissionError):
            write_report(pipe, outcomes(1))
        pipe.chmod(0o666)
        with as_nobody():
            check_report_path(pipe)


def test_a_report_that_has_no_place_is_written_under_a_name_that_tells_whose_it_is() -> None:
    path = rescue_report(outcomes(2))
    try:
        assert path.name.startswith("codiff-batch-report-")
        assert path.read_text() == as_json(outcomes(2))
    finally:
        path.unlink()
