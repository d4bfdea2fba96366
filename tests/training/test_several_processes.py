"""Training on several devices, which on a CPU are processes."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from tests import warm
from tests.training.test_stages import TINY_COMPACT
from training.compact import CompactConfig
from training.fit import prepare
from training.run import averaged_weights

ROOT = Path(__file__).resolve().parents[2]


FASTER_CLOCK = """
import os, time, types
if "RANK" in os.environ:
    import training.run
    rate = 1 + int(os.environ["RANK"])
    training.run.time = types.SimpleNamespace(monotonic=lambda: rate * time.monotonic())
"""
"""Has the second process's clock run twice as fast; as ``sitecustomize.py`` it comes before all else."""


def launch(*arguments: object, processes: int, first: Path) -> subprocess.CompletedProcess[str]:
    """Train in several processes, which look for modules in the folder ``first``."""
    # What "accelerate launch" starts on GPUs; on CPUs it would want MPI.
    command = [*warm.program("torch.distributed.run"), "--standalone", f"--nproc_per_node={processes}"]
    command += ["-m", "training.compact", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{first}:{ROOT}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_processes_that_are_paused_for_a_day_wait_for_each_other() -> None:
    waits = prepare(CompactConfig(), "cpu").init_handler
    assert waits is not None
    assert waits.timeout >= timedelta(days=1)


@pytest.mark.slow(seconds=20)
def test_two_processes_train_one_model_together_and_stop_by_one_clock(tmp_path: Path, photos: Path) -> None:
    config = tmp_path / "config.toml"
    by_the_clock = TINY_COMPACT.format(steps=0).replace("minutes = 0.0", "minutes = 0.02")
    config.write_text(by_the_clock + "gan_weight = 0.01\n")
    (tmp_path / "sitecustomize.py").write_text(FASTER_CLOCK)
    arguments = ("--photos", photos, "--out", tmp_path / "out", "--device", "cpu")
    ended = launch(config, *arguments, processes=2, first=tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.count("validation at step") == 1, "one process validates and writes"
    assert len(list((tmp_path / "out").glob("events.*"))) == 1
    assert averaged_weights(tmp_path / "out")
