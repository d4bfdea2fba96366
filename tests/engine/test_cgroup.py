"""Memory that containers and services are given, told from folders like the system's."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from codiff_batch.engine import cgroup
from codiff_batch.engine.cgroup import Limit, limits
from codiff_batch.engine.memory import free_memory, total_memory


def group(folder: Path, most: str, used: int, forgettable: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {forgettable}\nactive_file 9\n")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own"
    file.write_text("0::/system.slice/photos.service\n")
    return file


def test_a_process_has_the_limits_of_its_group_and_of_those_above(tmp_path: Path, own: Path) -> None:
    group(tmp_path / "fs/system.slice/photos.service", "4000", 1500, forgettable=500)
    group(tmp_path / "fs/system.slice", "3000", 2000)
    group(tmp_path / "fs", "max", 9000)
    group(tmp_path, "1", 1)  # Not a group.
    found = list(limits(tmp_path / "fs", own))
    assert found == [Limit(4000, 1000), Limit(3000, 2000)]
    assert [limit.free for limit in found] == [3000, 1000]


def test_in_a_container_its_own_group_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/\n")
    group(tmp_path / "fs", "4000", 5000)
    assert [limit.free for limit in limits(tmp_path / "fs", tmp_path / "own")] == [0]


@pytest.mark.parametrize("told", ["", "1:memory:/old\n", "0::/../..\n", "0::/gone\n"])
def test_without_groups_or_with_odd_ones_there_is_no_limit(told: str, tmp_path: Path) -> None:
    (tmp_path / "own").write_text(told)
    (tmp_path / "fs").mkdir()
    assert list(limits(tmp_path / "fs", tmp_path / "own")) == []
    assert list(limits(tmp_path / "fs", tmp_path / "none")) == []


def test_the_smallest_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(cgroup, "limits", lambda: iter([Limit(4000, 1000), Limit(3500, 2500)]))
    assert (free_memory(cpu), total_memory(cpu)) == (500, 3500)
    huge = 1 << 60
    monkeypatch.setattr(cgroup, "limits", lambda: iter([Limit(huge, 0)]))
    assert total_memory(cpu) == psutil.virtual_memory().total
    assert 0 < free_memory(cpu) <= total_memory(cpu) // 2
