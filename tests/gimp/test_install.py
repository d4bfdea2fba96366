"""``codiff-batch gimp install``, ``doctor`` and ``uninstall`` on folders like GIMP's."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from codiff_batch import __version__
from codiff_batch.gimp.doctor import complaints
from codiff_batch.gimp.install import install, uninstall
from codiff_batch.gimp.places import environ_file, gimp_folders, plugin_file, plugin_files
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import BUNDLED, DEFAULT_MODEL
from codiff_batch.settings import Floats, Settings, knobs
from tests import warm

ROOT = Path(__file__).resolve().parents[2]


def program(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    environment.pop("GIMP3_DIRECTORY", None)
    command = [*warm.program(), "gimp", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def gimp(tmp_path: Path) -> Path:
    folder = tmp_path / "home/.config/GIMP/3.0"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.slow
def test_every_gimp_3_that_is_there_gets_the_plug_in(gimp: Path, tmp_path: Path) -> None:
    (gimp.parent / "3.2").mkdir()
    (gimp.parent / "2.10").mkdir()
    home = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": ""}
    told = program("install", **home)
    assert told.returncode == 0, told.stderr
    for version in ("3.0", "3.2"):
        plugin = plugin_file(gimp.parent / version)
        source = ROOT / "plugins/gimp/codiff-batch"
        names = plugin_files(source)
        assert {"codiff_gimp/dialog.py", "locale/de/LC_MESSAGES/codiff-batch.mo"} <= {str(name) for name in names}
        assert plugin_files(plugin.parent) == names
        assert all((plugin.parent / name).read_bytes() == (source / name).read_bytes() for name in names)
        assert plugin.stat().st_mode & 0o111 == 0o111
        assert environ_file(gimp.parent / version).read_text() == f"CODIFF_PYTHON={sys.executable}\n"
    assert not list((gimp.parent / "2.10").iterdir())
    told = program("uninstall", **home)
    assert told.returncode == 0
    assert not plugin_file(gimp).parent.exists()
    assert not environ_file(gimp).exists()
    assert "nothing to remove" in program("uninstall", **home).stdout


@pytest.mark.slow
@pytest.mark.slow
def test_where_there_is_no_gimp_it_says_what_to_do(tmp_path: Path) -> None:
    told = program("install", HOME=str(tmp_path), XDG_CONFIG_HOME="", PATH=str(tmp_path))
    assert told.returncode == 4
    assert "--gimp-dir" in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
    told = program("doctor", "--gimp-dir", str(tmp_path / "gone"))
    assert told.returncode == 4
    assert "is not a folder" in told.stderr


def test_a_named_folder_is_taken_as_it_is(gimp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gimp_folders(gimp) == [gimp]
    monkeypatch.setenv("GIMP3_DIRECTORY", str(gimp))
    assert gimp_folders() == [gimp]


def ills(gimp: Path) -> str:
    return "\n".join(complaints(gimp))


@pytest.mark.slow
def test_a_healthy_installation_has_no_complaints(gimp: Path) -> None:
    install(gimp)
    assert not ills(gimp)


def give_engine(gimp: Path, script: str) -> Path:
    """Have the plug-in start a Python that does nothing but this."""
    python = gimp / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    environ_file(gimp).write_text(f"CODIFF_PYTHON={python}\n")
    return python


def test_the_doctor_finds_what_goes_wrong_and_names_the_cure(gimp: Path) -> None:
    def broken(part: Path) -> Path:
        install(gimp)
        give_engine(gimp, f"echo {__version__}")
        assert not ills(gimp)
        return part

    assert "not installed" in ills(gimp)
    broken(plugin_file(gimp)).chmod(0o644)
    assert "not executable" in ills(gimp)
    broken(plugin_file(gimp)).write_text("# older\n")
    assert "another version" in ills(gimp)
    broken(plugin_file(gimp).parent / "codiff_gimp/dialog.py").unlink()
    assert "another version" in ills(gimp)
    broken(gimp / "plug-ins/codiff-batch.py").write_text("")
    assert "not in a folder of its own" in ills(gimp)
    (gimp / "plug-ins/codiff-batch.py").unlink()
    give_engine(gimp, "echo 0.0.1")
    assert f"has codiff-batch 0.0.1, not {__version__}" in ills(gimp)
    python = give_engine(gimp, "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1")
    assert "No module named 'torch'" in ills(gimp)
    python.unlink()
    assert f"{python}, no longer exists" in ills(gimp)
    environ_file(gimp).unlink()
    assert "cannot find the engine" in ills(gimp)
    assert uninstall(gimp)
    assert not uninstall(gimp)


@pytest.mark.slow
def test_installing_again_repairs(gimp: Path) -> None:
    install(gimp)
    plugin_file(gimp).write_text("broken")
    plugin_file(gimp).chmod(0o600)
    (plugin_file(gimp).parent / "old.py").touch()
    install(gimp)
    give_engine(gimp, f"echo {__version__}")
    assert not ills(gimp)


@pytest.mark.slow
def test_the_doctors_verdict_is_an_exit_code(gimp: Path) -> None:
    told = program("doctor", "--gimp-dir", str(gimp))
    assert told.returncode == 4
    assert "codiff-batch gimp install" in told.stdout


@pytest.mark.slow
def test_in_an_activated_environment_all_is_well_with_a_note(gimp: Path, tmp_path: Path) -> None:
    """The environment's ``python3`` lacks GIMP's bindings, which matters to a GIMP that is started from there alone."""
    install(gimp)
    give_engine(gimp, f"echo {__version__}")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python3"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    told = program("doctor", "--gimp-dir", str(gimp), PATH=f"{python.parent}:{os.environ['PATH']}")
    assert told.returncode == 0
    assert f"{gimp}: no problems found" in told.stdout
    if Path("/usr/bin/python3").exists():
        assert f"note: a GIMP started from this shell would use {python}" in told.stdout


def test_the_plug_in_has_the_engines_ranges_and_defaults() -> None:
    table = runpy.run_path(str(ROOT / "plugins/gimp/codiff-batch/codiff_gimp/ranges.py"))
    engines = knobs(Settings).values()
    numbers = {knob.name: (knob.low, knob.high, knob.default) for knob in engines if not knob.is_switch}
    numbers["texture"] = (*numbers["texture"][:2], read_card(BUNDLED / DEFAULT_MODEL).texture)
    assert table["RANGES"] == numbers
    assert table["SWITCHES"] == {knob.name: knob.default for knob in engines if knob.is_switch}
    assert table["PRECISIONS"] == get_args(Floats)
    assert table["DEFAULT_MODEL"] == DEFAULT_MODEL
