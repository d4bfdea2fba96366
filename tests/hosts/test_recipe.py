"""Bringing a host program: whole, anew where it must be, and never silently failing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.hosts import recipe
from tests.hosts.recipe import InstallFailed, bring, run


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "PAUSE", 0)


def test_a_host_is_installed_once_for_each_recipe(tmp_path: Path) -> None:
    how, folder, installed = tmp_path / "how.py", tmp_path / "hosts/one", []

    def install(folder: Path) -> None:
        assert list(folder.iterdir()) == [], "what another recipe left is still there"
        (folder / "program").write_text("")
        installed.append(how.read_text())

    for text in ("first", "first", "second", "second"):
        how.write_text(text)
        bring(folder, how, install)
    assert installed == ["first", "second"]


def test_a_half_made_host_is_thrown_away(tmp_path: Path) -> None:
    folder = tmp_path / "one"

    def break_off(folder: Path) -> None:
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(folder, Path(__file__), break_off)
    bring(folder, Path(__file__), lambda folder: None)
    assert [path.name for path in folder.iterdir()] == ["done"]


def test_a_command_that_fails_once_is_tried_again_on_clean_ground(tmp_path: Path) -> None:
    left = tmp_path / "left"
    fails_first = f"import pathlib; path = pathlib.Path({str(left)!r}); path.mkdir(); print('x'); exit(not CLEAN)"
    cleaned: list[bool] = []

    def clean() -> None:
        left.rmdir()
        cleaned.append(True)
        script.write_text(fails_first.replace("CLEAN", "True"))

    script = tmp_path / "script.py"
    script.write_text(fails_first.replace("CLEAN", "False"))
    run([sys.executable, script], before_again=clean)
    assert cleaned == [True]


def test_a_command_that_fails_again_says_what_it_printed_last() -> None:
    prints = "import sys; [print('line', n) for n in range(100)]; sys.exit('no such package')"
    with pytest.raises(InstallFailed) as failed:
        run([sys.executable, "-u", "-c", prints])
    said = str(failed.value).splitlines()
    assert said[-2:] == ["line 99", "no such package"]
    assert len(said) == 1 + recipe.TOLD
