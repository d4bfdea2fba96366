"""The program as a whole: start-up, help, inspect, models, and a folder called like a command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import codiff_batch
from codiff_batch.cli.signals import GentleStop
from codiff_batch.exit_codes import ExitCode
from codiff_batch.jpeg import JpegPhoto
from tests import warm
from tests.photos import jpeg, scene, write
from tests.tiny_model import SIZES, make_tiny_model


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_import_and_help_bring_in_no_torch() -> None:
    code = (
        "import sys, codiff_batch, codiff_batch.engine, codiff_batch.cli.main as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'jpeglib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ran = python("-c", code)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_judging_by_headers_alone_needs_no_torch(tmp_path: Path) -> None:
    write(tmp_path / "p/a.jpg", jpeg(20))
    code = (
        "import sys, codiff_batch.cli.main as m\n"
        f"try: m.main(['--dry-run', {str(tmp_path / 'p')!r}])\n"
        "except SystemExit as e: assert not e.code\n"
        "assert 'torch' not in sys.modules"
    )
    ran = python("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert "1 would be restored" in ran.stderr


@pytest.mark.slow
def test_a_user_without_a_home_can_do_all_that_needs_none(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number: nothing can be kept, so nothing is."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    monkeypatch.chdir(tmp_path)
    make_tiny_model(tmp_path / "tiny")
    write(tmp_path / "p/a.jpg", jpeg(20))
    assert "1 would be restored" in run("p", "--dry-run").err
    assert "1 restored" in run("p", "--model", "./tiny").err
    assert "1 restored" in run("p", "--in-place", "--backup", "kept", "--model", "./tiny").err
    assert run("undo", "kept").code == 0
    assert run("models", "list").code == 0
    assert run("gimp", "doctor").code == 4
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "p", "p-restored", "kept"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@pytest.mark.parametrize(("own", "threads"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "2"}, "2")])
def test_numpy_leaves_the_cores_to_the_programs_own_threads_unless_told(own: dict[str, str], threads: str) -> None:
    code = (
        "import sys, os, codiff_batch.cli.main as m\n"
        "assert 'numpy' not in sys.modules, 'which would have read its settings'\n"
        "try: m.main(['--version'])\n"
        "except SystemExit: pass\n"
        "import numpy\n"
        "print(len(os.listdir('/proc/self/task')), os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "OPENBLAS_"))}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**environment, **own})
    assert ran.stdout.splitlines()[-1] == f"{threads} PASSIVE", ran.stderr


@pytest.mark.slow
def test_restoring_imports_neither_torchs_compiler_nor_the_full_models_libraries(tmp_path: Path) -> None:
    """Each would take seconds of every start."""
    sizes = {**SIZES, "texture": True}
    model = make_tiny_model(tmp_path / "tiny", sizes=sizes)
    write(tmp_path / "p/a.jpg", jpeg(20))
    code = (
        "import sys, codiff_batch.cli.main as m\n"
        f"try: m.main([{str(tmp_path / 'p')!r}, '--model', {str(model)!r}])\n"
        "except SystemExit as e: assert not e.code\n"
        "heavy = {'torch._dynamo', 'torch._inductor', 'sympy', 'diffusers', 'peft', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ran = python("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert "1 restored" in ran.stderr


def test_python_m_is_the_same_program() -> None:
    ran = python("-m", "codiff_batch", "--version")
    assert ran.stdout == f"codiff-batch, version {codiff_batch.__version__}\n"


def test_help_shows_the_options_of_restoring_and_the_commands(run) -> None:
    ran = run("--help")
    assert ran.code == 0
    for text in ("PATH...", "--min-qf", "--in-place", "inspect", "models", "./models", "Exit codes"):
        assert text in ran.out


def test_without_arguments_there_is_help(run) -> None:
    assert "Usage: codiff-batch" in run().err


@pytest.mark.slow
def test_a_folder_called_like_a_command_is_reached_by_a_path(run, tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "models/a.jpg", jpeg(20))
    monkeypatch.chdir(tmp_path)
    assert run("./models").code == 0
    assert (tmp_path / "models-restored/a.jpg").is_file()


def test_inspect_prints_a_table(run, tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", jpeg(20, image=scene(200, 160), subsampling=1))
    write(tmp_path / "b.jpg", jpeg(20, image=scene().convert("L")))
    write(tmp_path / "c.jpg", b"")
    ran = run("inspect", tmp_path)
    assert ran.code == 3
    titles, a, b, c = ran.out.splitlines()
    assert titles.split() == ["file", "size", "sampling", "QF", "pixels", "verdict", "metadata"]
    assert a.split()[1:4] == ["200x160", "4:2:2", "20"]
    assert "restore" in a
    assert b.split()[1:4] == ["96x64", "gray", "20"]
    assert "refuse" in c
    assert "empty" in c
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.slow
def test_inspect_prints_json_for_programs(run, tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", jpeg(20, comment=b"hello", progressive=True))
    ran = run("inspect", "--json", "--look", tmp_path)
    assert ran.code == 0
    (row,) = json.loads(ran.out)
    assert (row["width"], row["height"], row["process"]) == (96, 64, "progressive")
    assert (row["header_qf"], row["header_misfit"], row["verdict"]) == (20, 0, "restore")
    assert 0 <= row["estimated_qf"] <= 100
    assert row["metadata"] == ["comment"]


@pytest.mark.slow
def test_inspect_says_what_a_run_leaves_alone_whatever_its_quality(run, tmp_path: Path) -> None:
    signed = b'<x:xmpmeta xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="https://example.org/1"/>'
    write(tmp_path / "in/1-signed.jpg", jpeg(20, xmp=signed))
    write(tmp_path / "in/2-crushed.jpg", jpeg(20))
    write(tmp_path / "in/4-good.jpg", jpeg(98))
    assert run(tmp_path / "in", "-o", tmp_path / "out", "--model", "fast", "--quality", 30).code == 0
    shutil.copy(tmp_path / "out/2-crushed.jpg", tmp_path / "in/3-restored.jpg")
    rows = json.loads(run("inspect", "--json", tmp_path / "in").out)
    assert rows.pop()["verdict"] == "skip"
    assert [(row["verdict"], row["reason"].split(":")[0]) for row in rows] == [
        ("skip", "signed"), ("restore", "header says QF 20, below 60"), ("skip", "restored before"),
    ]  # fmt: skip


def test_models_are_listed_and_shown(run, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "mine")
    lines = run("models", "list", "--models-dir", tmp_path).out.splitlines()
    told = [tuple(line.split()[:2]) for line in lines]
    assert told == sorted(told)
    expected = {"codiff-sd21": "known", "compact": "bundled", "mine": "installed", "natural": "former"}
    assert set(told) >= set(expected.items())
    card = json.loads(run("models", "show", "mine", "--models-dir", tmp_path).out)
    assert card["architecture"] == "compact"
    assert run("models", "show", "nothing").code == 4
    former = run(tmp_path, "--model", "natural")
    assert (former.code, former.err.count("\n")) == (4, 1)
    assert "'natural' is now part of compact" in former.err


@pytest.mark.slow
def test_a_model_is_chosen_by_name_or_by_folder(run, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "models/mine")
    write(tmp_path / "p/a.jpg", jpeg(20))
    assert run(tmp_path / "p", "--model", "mine", "--models-dir", tmp_path / "models", "-o", tmp_path / "1").code == 0
    assert run(tmp_path / "p", "--model", tmp_path / "models/mine", "-o", tmp_path / "2").code == 0
    assert (tmp_path / "1/a.jpg").read_bytes()[:2] == (tmp_path / "2/a.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_a_damaged_model_ends_the_run_before_anything_is_done(run, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "mine")
    (tmp_path / "mine/weights.safetensors").write_bytes(b"no weights")
    write(tmp_path / "p/a.jpg", jpeg(20))
    ran = run(tmp_path / "p", "--model", tmp_path / "mine")
    assert ran.code == 4
    assert "does not match its checksum" in ran.err
    assert not list((tmp_path / "p-restored").glob("*.jpg"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_run_leaves_whole_photos_only_and_says_what_is_left(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    for index in range(40):
        write(tmp_path / f"p/{index:02}.jpg", jpeg(20, image=scene(320, 240, seed=index)))
    command = [*warm.program(), str(tmp_path / "p"), "-v", "--report", str(tmp_path / "r.json")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        program.stderr.readline()  # the first photo is done
        program.send_signal(number)
        rest = program.stderr.read()
    assert program.returncode == code
    assert "photos not done" in rest
    assert "Traceback" not in rest
    outputs = [path for path in (tmp_path / "p-restored").iterdir() if path.name != ".codiff-batch"]
    assert 0 < len(outputs) < 40
    assert all(path.suffix == ".jpg" and JpegPhoto.open(path).metadata().restored_by for path in outputs)
    assert len(json.loads((tmp_path / "r.json").read_text())) == len(outputs)


@pytest.mark.parametrize("busy", ["stop.event._cond", "writing"])
def test_a_signal_that_comes_while_the_program_waits_or_writes_is_heard(busy: str) -> None:
    """Whatever lock the main thread has in that moment."""
    code = (
        "import signal, sys, threading\n"
        "from codiff_batch.cli.signals import GentleStop\n"
        "writing = threading.Lock()\n"
        "class Stream:\n"
        "    def write(self, text):\n"
        "        with writing: return sys.__stderr__.write(text)\n"
        "    def flush(self): pass\n"
        "sys.stderr = Stream()\n"
        "with GentleStop() as stop:\n"
        f"    with {busy}:\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "    assert stop.event.wait(10)\n"
        "sys.exit(stop.exit_code)"
    )
    ran = subprocess.run(warm.script(code), capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 143
    assert "finishing the photos in progress" in ran.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="terminals hang up on POSIX only")
def test_a_terminal_that_is_closed_ends_a_run_gently_unless_it_was_told_to_stay() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with GentleStop() as stays:  # nohup
            signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with GentleStop() as ends:
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert (stays.event.is_set(), stays.exit_code) == (False, 0)
    assert (ends.event.is_set(), ends.exit_code) == (True, ExitCode.HUNG_UP)


@pytest.mark.parametrize(
    ("option", "code", "told"), [("--version", 0, [codiff_batch.__version__]), ("--texture=2", 2, [])]
)
def test_the_program_ends_once_threads_and_libraries_have_and_takes_no_module_down(
    option: str, code: int, told: list[str]
) -> None:
    script = (
        "import atexit, sys, threading, time, codiff_batch.cli.program as program\n"
        "class Module:\n"
        "    def __del__(self): print('taken down', flush=True)\n"
        "sys.modules['of_a_library'] = Module()\n"
        "atexit.register(print, 'a library ends')\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('a thread ends'))).start()\n"
        f"sys.argv[1:] = [{option!r}, 'photos']\n"
        "program.run()"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == code
    assert [line.split()[-1] for line in ran.stdout.splitlines()] == [*told, *["ends"] * 2]
    assert ran.stdout.index("a thread ends") < ran.stdout.index("a library ends")


@pytest.mark.slow
def test_a_mistake_of_the_program_ends_with_one(tmp_path: Path) -> None:
    write(tmp_path / "p/a.jpg", jpeg(20))
    code = (
        "import codiff_batch.batch.run as run, codiff_batch.cli.main as cli\n"
        "run.run_batch = lambda *arguments, **named: 1 / 0\n"
        f"cli.main([{str(tmp_path / 'p')!r}])"
    )
    ran = subprocess.run(warm.script(code), capture_output=True, text=True)
    assert ran.returncode == 1
    assert "ZeroDivisionError" in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("photos", "--max-megapixels", "inf"),
        ("photos", "--max-megabytes", "1e400"),
        ("photos", "--max-megabytes", "1e-9"),
        ("photos", "--timeout", "nan"),
        ("photos", "--strength", "nan"),
        ("inspect", "photos", "--min-qf", "nan"),
        ("watch", "photos", "--settle", "nan"),
        ("watch", "photos", "--rescan", "nan"),
        ("serve", "--stdio", "--idle", "nan"),
    ],
)
def test_what_is_no_number_is_a_wrong_command_line(
    run, tmp_path: Path, monkeypatch, arguments: tuple[str, ...]
) -> None:
    write(tmp_path / "photos/a.jpg", jpeg(20))
    monkeypatch.chdir(tmp_path)
    ran = run(*arguments)
    assert ran.code == 2
    assert f"Invalid value for '{arguments[-2]}'" in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]
