"""A model that is being replaced is the old one or the new one, wherever the program is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from codiff_batch.errors import CannotInstall
from codiff_batch.models.appearing import appearing
from codiff_batch.models.catalogue import available, find
from tests.photos import write


def content(folder: Path) -> str:
    return (folder / "model.json").read_text()


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


DYING = """
import os, sys
from pathlib import Path
from codiff_batch.models import appearing as module

root, moment, steps = Path(sys.argv[1]), int(sys.argv[2]), [0]

def dying(original):
    def call(*arguments, **named):
        steps[0] += 1
        if steps[0] == moment:
            os._exit(9)
        return original(*arguments, **named)
    return call

module._exchange = dying(module._exchange) if sys.argv[3] == "exchange" else lambda one, other: False
Path.replace = dying(Path.replace)
module.shutil.rmtree = dying(module.shutil.rmtree)
module._sync = dying(module._sync)
with module.appearing(root / "x") as partial:
    (partial / "model.json").write_text("new")
"""


def replace_and_die(root: Path, moment: int, *, exchange: bool) -> bool:
    """Replace a model in a process that dies at its n-th step; return True if it lived."""
    how = "exchange" if exchange else "renames"
    return subprocess.run([sys.executable, "-c", DYING, str(root), str(moment), how]).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "in two renames"])
def test_killed_anywhere_the_old_or_the_new_model_is_there(tmp_path: Path, exchange: bool) -> None:
    seen = set()
    for moment in range(1, 20):
        root = tmp_path / str(moment)
        write(root / "x/model.json", b"old")
        lived = replace_and_die(root, moment, exchange=exchange)
        assert find("x", root) == root / "x"
        seen.add(content(root / "x"))
        assert visible(root) == ["x"]
        with appearing(root / "x") as partial:  # the next one is not disturbed, and sweeps
            write(partial / "model.json", b"newer")
        assert content(root / "x") == "newer"
        assert [p.name for p in root.iterdir()] in (["x", ".x.lock"], [".x.lock", "x"])
        if lived:
            break
    assert lived
    assert seen == {"old", "new"}


def test_an_import_that_fails_leaves_the_model_that_a_killed_one_had_set_aside(tmp_path: Path) -> None:
    write(tmp_path / ".codiff-batch-x-abcdefgh.old/model.json", b"old")
    with pytest.raises(CannotInstall), appearing(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    assert content(tmp_path / "x") == "old"


def test_listing_puts_back_what_was_set_aside(tmp_path: Path) -> None:
    write(tmp_path / ".codiff-batch-x-abcdefgh.old/model.json", b"{}")
    assert "x" in {entry.name for entry in available(tmp_path)}


def test_of_two_imports_at_once_neither_takes_what_is_the_others(tmp_path: Path) -> None:
    """One model's name may be the beginning of another's, or look like a pattern."""
    for name in ("codiff-sd21", "codiff-sd21-old", "c*"):
        with appearing(tmp_path / name) as partial:
            write(partial / "model.json", name.encode())
            aside = partial.with_name(f".codiff-batch-{name}-killed_1.old")
            write(aside / "model.json", b"set aside by an import that was killed")
            for other in ("codiff", "c", "c*f"):
                with appearing(tmp_path / other) as own:
                    write(own / "model.json", b"another")
            assert aside.exists()
        assert content(tmp_path / name) == name
    assert visible(tmp_path) == sorted(["c", "c*", "c*f", "codiff", "codiff-sd21", "codiff-sd21-old"])


def test_what_is_not_an_imports_is_neither_removed_nor_renamed(tmp_path: Path) -> None:
    kept = [
        ".codiff-sd21-backup/model.json",
        ".codiff-sd21-20251103/model.json",
        ".photos-2019-old/a.jpg",
        ".bashrc-2023-old",
        ".codiff-batch-photos-abcdefgh.old/a.jpg",
    ]
    for name in kept:
        write(tmp_path / name, b"mine")
    (tmp_path / ".codiff-batch-codiff-sd21-abcdefgh.new").symlink_to(tmp_path / ".photos-2019-old")
    available(tmp_path)
    with appearing(tmp_path / "codiff-sd21") as partial:
        write(partial / "model.json", b"{}")
    assert all((tmp_path / name).read_bytes() == b"mine" for name in kept)
    assert visible(tmp_path) == ["codiff-sd21"]


def test_of_two_imports_of_one_name_the_second_replaces_nothing_unasked(tmp_path: Path) -> None:
    with appearing(tmp_path / "x", replace=False) as partial:
        write(partial / "model.json", b"first")
    with pytest.raises(CannotInstall, match="already exists"), appearing(tmp_path / "x", replace=False):
        pass
    assert content(tmp_path / "x") == "first"
