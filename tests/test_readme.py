"""README keeps its promises."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codiff_batch.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    shutil.copytree(ROOT / "examples/photos", tmp_path / "examples/photos")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert Image.open("lavender.png").size == (512, 512)


@pytest.mark.slow
def test_the_first_command_restores_the_examples_and_keeps_their_mean_colours(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "codiff-batch examples/photos --min-qf 60\n" in README
    shutil.copytree(ROOT / "examples/photos", tmp_path / "examples/photos")
    monkeypatch.chdir(tmp_path)
    ran = run("examples/photos", "--min-qf", 60)
    assert ran.code == 0
    assert "8 restored, 1 skipped, 0 failed" in ran.err
    assert not (tmp_path / "examples/photos-restored/strudel-fine-q95.jpg").exists()
    for path in Path("examples/photos-restored").glob("*.jpg"):
        restored, source = (np.atleast_3d(Image.open(file)) for file in (path, Path("examples/photos", path.name)))
        change = restored.mean(axis=(0, 1)) - source.mean(axis=(0, 1))
        # Ringing in a channel that is clipped at 0 raises its mean; taking it away lowers it again.
        unclipped = [i for i in range(source.shape[2]) if np.mean(source[..., i] % 255 == 0) < 0.05]
        assert np.abs(change[unclipped]).max(initial=0) < 1, path.name
        assert np.abs(change).max() < 2, path.name


def test_links_and_pictures_are_there() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(((?!http)[^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_what_is_tested_with_satisfies_what_is_asked_for() -> None:
    """Every dependency has its pin in constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["test"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[><=\[]", name)[0].replace("_", "-").lower() for name in asked} - {"codiff-batch"}
    pins = {line.split("==")[0].replace("_", "-").lower() for line in (ROOT / "constraints.txt").read_text().split()}
    assert names <= pins


def test_every_option_and_exit_code_is_documented(run) -> None:
    page = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    pages = page + (ROOT / "docs/unattended.md").read_text(encoding="utf-8")
    for command in ([], ["inspect"], ["watch"], ["status"], ["undo"]):
        for option in re.findall(r"(--[a-z-]+)", run(*command, "--help").out):
            assert f"`{option}" in pages, option
    for code in ExitCode:
        assert f"| {code.value} |" in page


def test_every_promise_names_a_test_that_is_there() -> None:
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    tests = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    promised = set(re.findall(r"`(test_\w+)`", page))
    assert len(promised) > 30
    assert promised <= tests
