"""Training on several devices, which on a CPU are processes."""

from __future__ import annotations

import os
import shlex
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
import training.run
from training.compact import main
rate = 1 + int(os.environ["RANK"])
training.run.time = types.SimpleNamespace(monotonic=lambda: rate * time.monotonic())
main()
"""
"""Trains with a clock that runs twice as fast in the second process."""


def launch(*arguments: object, processes: int, python: Path) -> subprocess.CompletedProcess[str]:
    """Train in several processes, for each of which ``python`` is written and run."""
    # What "accelerate launch" starts on GPUs; on CPUs it would want MPI.
    command = [*warm.program("torch.distributed.run"), "--standalone", f"--nproc_per_node={processes}"]
    command += ["-m", "training.compact", *map(str, arguments)]
    trains = shlex.join(warm.script(FASTER_CLOCK))
    python.write_text(f'#!/bin/sh\nshift 3  # "-u -m training.compact"\nexec {trains} "$@"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON_EXEC": str(python), "OMP_NUM_THREADS": "1"}
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
    arguments = ("--photos", photos, "--out", tmp_path / "out", "--device", "cpu")
    ended = launch(config, *arguments, processes=2, python=tmp_path / "python")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.count("validation at step") == 1, "one process validates and writes"
    assert len(list((tmp_path / "out").glob("events.*"))) == 1
    assert averaged_weights(tmp_path / "out")
