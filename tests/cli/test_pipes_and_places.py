"""Broken pipes, full disks and closed streams never stop the work, and no report is lost."""

from __future__ import annotations

import csv
import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
import threading
import time
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from codiff_batch.cli.main import main
from codiff_batch.cli.streams import safe_streams
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model

PHOTOS = ["0.jpg", "1.jpg", "2.jpg"]
COPY = "--copy-skipped --model ./tiny"
"""Photos that were restored before are copied: work with words and files, for which no process must load torch."""


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of the program, beside the model that made them."""
    folder = tmp_path_factory.mktemp("restored")
    make_tiny_model(folder / "tiny")
    for index, name in enumerate(PHOTOS):
        write(folder / "in" / name, jpeg(20, image=scene(seed=index)))
    with pytest.raises(SystemExit):
        main([str(folder / "in"), "-q", "-o", str(folder / "p"), "--model", str(folder / "tiny")])
    shutil.rmtree(folder / "p/.codiff-batch")
    return folder


@pytest.fixture
def folder(restored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with three photos in ``p`` and a model called by its path, ``./tiny``."""
    shutil.copytree(restored, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(line: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a line in bash, with ``codiff-batch`` as this program."""
    program = f'codiff-batch() {{ "{sys.executable}" -m codiff_batch "$@"; }}; set -o pipefail; '
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = ["bash", "-c", program + line]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=buffered, **options)


def outputs(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "p-restored").glob("*.jpg"))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["2>&1 | head -1", "2>/dev/full", "2>&-", ">&-", "<&- >&- 2>&-", ">/dev/full"])
@pytest.mark.parametrize("command", ["p -v", "watch p --once --settle 0"])
def test_where_the_words_go_never_stops_the_work(folder: Path, command: str, where: str) -> None:
    ran = shell(f"codiff-batch {command} {COPY} {where}")
    assert (ran.returncode, outputs(folder)) == (0, PHOTOS)
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_no_file_of_ours_gets_the_number_of_a_closed_stream(folder: Path) -> None:
    """Else what a C library writes to stderr would end in a photo."""
    code = (
        "import os; from codiff_batch.cli.streams import safe_streams\n"
        "with safe_streams():\n"
        "    for name in 'abc': os.open(name, os.O_CREAT | os.O_WRONLY)\n"
        "    os.write(2, b'Corrupt JPEG data')\n"
    )
    command = shlex.join([sys.executable, "-c", code])
    assert shell(f"{command} 0<&- 1>&- 2>&-").returncode == 0
    assert [(folder / name).read_bytes() for name in "abc"] == [b""] * 3


@pytest.mark.slow
@pytest.mark.parametrize("command", ["inspect p", "inspect p --json", "models list", "--help"])
def test_a_reader_that_has_seen_enough_ends_printing_quietly(folder: Path, command: str) -> None:
    for index in range(200):
        write(folder / f"p/x{index}.jpg", jpeg(20, image=scene(8, 8)))
    ran = shell(f"codiff-batch {command} | true")
    assert ran.returncode == 141
    assert ran.stderr in ("", f"installed models are looked for in {Path.home()}/.local/share/codiff-batch/models\n")


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_pipes_that_do_not_block_are_waited_for(folder: Path, unbuffered: dict[str, str]) -> None:
    """A list is read to its end, and all results are written, whatever another program set on the pipes."""
    for index in range(500):
        write(folder / f"many/{'x' * 100}{index}.jpg", b"no photo")
    names = sorted(str(path.relative_to(folder)) for path in (folder / "many").iterdir())
    stdin, theirs = os.pipe()
    ours, stdout = os.pipe()
    os.set_blocking(stdin, False)
    os.set_blocking(stdout, False)
    command = [sys.executable, "-m", "codiff_batch", "inspect", "--files-from", "-"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | unbuffered
    with subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=environment) as program:
        os.close(stdin)
        os.close(stdout)
        with os.fdopen(theirs, "w") as list_:
            list_.write("\n".join(names[:250]) + "\n")
            list_.flush()
            time.sleep(1)
            list_.write("\n".join(names[250:]))
        time.sleep(1)
        with os.fdopen(ours) as printed:
            lines = printed.read().splitlines()
    assert program.returncode == 3
    assert [line.split(".jpg")[0] + ".jpg" for line in lines[1:]] == names


@pytest.mark.slow
def test_results_that_cannot_be_written_are_an_error_in_one_line(folder: Path) -> None:
    ran = shell("codiff-batch inspect p >/dev/full")
    assert ran.returncode == 4
    assert ran.stderr == "codiff-batch: error: cannot write to standard output: No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, 7, 20])
def test_a_narrow_terminal_never_stops_the_work(folder: Path, columns: int) -> None:
    ours, theirs = pty.openpty()
    command = f"stty cols {columns} rows 2 <&2; codiff-batch p {COPY} -v"
    shell_line = f'codiff-batch() {{ "{sys.executable}" -m codiff_batch "$@"; }}; {command}'
    with subprocess.Popen(["bash", "-c", shell_line], stderr=theirs, stdout=subprocess.DEVNULL) as program:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    assert (program.returncode, outputs(folder)) == (0, PHOTOS)
    assert b"Traceback" not in shown


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except OSError:  # the other side is closed
        return b""


@pytest.mark.slow
def test_inspect_prints_each_photo_as_soon_as_it_was_seen(folder: Path) -> None:
    for index in range(40):
        write(folder / f"q/{index:02}.jpg", jpeg(20))
    command = [sys.executable, "-c", _SLOW_LAST_PHOTO, "inspect", "q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        patience = threading.Timer(60, program.kill)
        patience.start()
        lines = [program.stdout.readline() for _ in range(17)]
        patience.cancel()
        assert program.poll() is None
        program.kill()
    assert lines[1].startswith("q/00.jpg")


_SLOW_LAST_PHOTO = """
import sys
from codiff_batch.cli.main import main
from codiff_batch.jpeg import JpegPhoto
opened = JpegPhoto.open
def open_slowly(path, **limits):
    if path.name == "39.jpg":
        sys.stdin.read()
    return opened(path, **limits)
JpegPhoto.open = open_slowly
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_report_goes_to_stdout_as_json(run, folder: Path) -> None:
    ran = run("p", *COPY.split(), "--report", "-")
    assert [record["outcome"] for record in json.loads(ran.out)] == ["skipped"] * 3
    assert "3 skipped" in ran.err


@pytest.mark.slow
def test_the_report_goes_into_any_pipe(folder: Path) -> None:
    ran = shell(f"codiff-batch p {COPY} -q --report >(cat > copy.json; touch ended); while [ ! -e ended ]; "
                "do sleep 0.05; done", timeout=60)  # fmt: skip
    assert ran.returncode == 0
    assert len(json.loads((folder / "copy.json").read_text())) == 3


def test_the_journal_gives_the_same_report_later(run, folder: Path) -> None:
    write(folder / "q/new.jpg", jpeg(20))
    write(folder / "q/torn.jpg", jpeg(20)[:300])
    run("q", "--model", "./tiny", "--report", "then.json")
    assert run("report", "q-restored", "-o", "now.json").code == 0
    then, now = (json.loads((folder / name).read_text()) for name in ("then.json", "now.json"))

    def told(records: list[dict[str, object]]) -> list[tuple[object, ...]]:
        return sorted((Path(str(r["source"])).name, r["outcome"], r["code"], r["header_qf"]) for r in records)

    assert told(now) == told(then)
    assert told(now)[1][:3] == ("torn.jpg", "failed", "damaged-jpeg")
    again = json.loads(run("q", "--model", "./tiny", "--report", "-").out)
    known = next(record for record in again if record["code"] == "done-before")
    assert (known["header_qf"], known["width"], known["model"]) == (20, 96, "./tiny")
    assert json.loads(run("report", "q", "-o", "-").out) == json.loads(run("report", "q-restored", "-o", "-").out)


@pytest.mark.slow
def test_a_report_in_a_folder_that_is_not_there_yet_is_written(run, folder: Path) -> None:
    assert run("p", "-o", "out", *COPY.split(), "--report", "out/logs/report.json").code == 0
    assert len(json.loads((folder / "out/logs/report.json").read_text())) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["/proc/nowhere/r.json", "/proc/r.html", "p.json/", "p"])
def test_a_place_that_takes_no_report_is_refused_before_the_work(run, folder: Path, name: str) -> None:
    (folder / "p.json").mkdir()
    ran = run("p", *COPY.split(), "--report", name)
    assert ran.code in (2, 4)
    assert "(see --report)" in ran.err
    assert outputs(folder) == []


@pytest.mark.parametrize("suffix", ["json", "csv", "html"])
def test_a_report_whose_place_is_gone_at_the_end_is_written_elsewhere(
    run, folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
    (folder / "temporary").mkdir()
    place = folder / "reports"
    finished = _after_the_last_photo(monkeypatch, lambda: (place.rmdir(), place.write_bytes(b"in the way")))
    ran = run("p", *COPY.split(), "--report", f"reports/r.{suffix}")
    assert finished
    assert ran.code == 4
    (rescued,) = (folder / "temporary").glob("*.json")
    assert f"its records are in {rescued}" in ran.err
    assert len(json.loads(rescued.read_text())) == 3


def _after_the_last_photo(monkeypatch: pytest.MonkeyPatch, act) -> list[str]:
    from codiff_batch.cli.progress import Progress

    told = Progress.finished
    seen: list[str] = []

    def finished(progress: Progress, outcome) -> None:
        told(progress, outcome)
        seen.append(outcome.source.name)
        if len(seen) == 3:
            act()

    monkeypatch.setattr(Progress, "finished", finished)
    return seen


def test_a_run_that_is_refused_keeps_the_earlier_report(run, folder: Path) -> None:
    run("p", *COPY.split(), "--report", "r.json")
    before = (folder / "r.json").read_bytes()
    write(folder / "q/new.jpg", jpeg(20))
    assert run("q", "--device", "cuda:77", "--report", "r.json").code == 4
    assert (folder / "r.json").read_bytes() == before


def test_a_run_that_an_error_ends_reports_what_was_done(run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codiff_batch.errors import DeviceUnavailable

    def lost() -> None:
        raise DeviceUnavailable("it fell off the bus")

    _after_the_last_photo(monkeypatch, lost)
    ran = run("p", *COPY.split(), "--report", "r.json")
    assert ran.code == 4
    assert ran.err.endswith("it fell off the bus (see --device)\n")
    assert len(json.loads((folder / "r.json").read_text())) == 3


def test_no_cell_of_a_csv_report_is_a_formula(run, folder: Path) -> None:
    write(folder / "=cmd|calc.jpg", jpeg(20))
    run("--model", "./tiny", "--report", "r.csv", "--", "=cmd|calc.jpg")
    with (folder / "r.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["source"] == "'=cmd|calc.jpg"


def test_a_standard_stream_that_is_closed_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # Libraries ask for it at the program's very end.
    monkeypatch.setattr("sys.stderr", TextIOWrapper(BytesIO()))
    with safe_streams():
        words = sys.stderr
    sys.stderr.close()
    assert not words.isatty()


def test_a_report_into_a_pipe_that_nobody_reads_is_written_elsewhere(
    run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
    (folder / "temporary").mkdir()
    os.mkfifo(folder / "pipe")
    # Were it waited for, this reader would come to its help, and the records would be in the pipe.
    late = threading.Timer(20, lambda: (folder / "pipe").read_bytes())
    late.daemon = True
    late.start()
    ran = run("p", "--dry-run", "--report", "pipe")
    late.cancel()
    assert ran.code == 4
    (rescued,) = (folder / "temporary").glob("*.json")
    assert f"nobody reads it; its records are in {rescued}" in ran.err


@pytest.mark.parametrize(
    "arguments", ["''", "p ''", "p -o ''", "p --in-place --backup ''", "p --report ''", "preview p -o ''"]
)
def test_an_empty_name_is_not_the_current_folder(run, folder: Path, arguments: str) -> None:
    before = sorted(folder.rglob("*"))
    ran = run(*shlex.split(arguments), "--model", "./tiny")
    assert ran.code == 2
    assert "the name is empty" in ran.err
    assert sorted(folder.rglob("*")) == before


def test_a_current_folder_that_is_gone_is_told_in_a_line(run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    ran = run(".", "--dry-run")
    assert (ran.code, ran.err) == (4, "codiff-batch: error: the current folder no longer exists\n")


@pytest.mark.slow
def test_a_library_that_finds_no_memory_is_told_in_one_line(folder: Path) -> None:
    ran = shell("ulimit -v 700000; codiff-batch in -q -o out --model ./tiny")
    assert ran.returncode == 4
    assert ran.stderr.startswith("codiff-batch: error: a library cannot be loaded: ")
    assert ran.stderr.count("\n") == 1
