"""A step of training only queues work: whatever reads a number from the device waits for all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training.test_stages import TINY, run
from training import stage1
from training.average import Average


class Reads(TorchDispatchMode):
    """Counts the numbers that are read from tensors."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.slow
def test_a_step_reads_nothing_from_the_device(tmp_path: Path, photos: Path) -> None:
    def reads(steps: int) -> int:
        file = tmp_path / "config.toml"
        file.write_text(TINY.format(steps=steps))
        with Reads() as mode:
            run(stage1.main, file, "--photos", photos, "--out", tmp_path / str(steps), "--device", "cpu")
        return mode.count

    assert reads(5) == reads(2)


def test_the_average_moves_as_each_of_its_tensors_would() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    average = Average(module, 0.9)
    before = {name: value.clone() for name, value in average.weights.items()}
    module(torch.rand(2, 3, 8, 8))
    with torch.no_grad():
        module[0].weight.add_(1)
    average.update(module, 1000)
    for name, value in module.state_dict().items():
        expected = torch.lerp(before[name], value, 1 - 0.9) if value.is_floating_point() else value
        assert torch.equal(average.weights[name], expected), name
