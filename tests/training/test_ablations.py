"""The paper's ablations run by one command each; here with tiny networks and a few steps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from training import ablations, compact, stage1
from training.config import read_config

NETWORKS = Path(__file__).resolve().parents[3] / "shared/data/networks"
TINY = {
    "steps": "2",
    "batch": "2",
    "patch": "32",
    "width": "8",
    "cave_width": "8",
    "depth": "1",
    "cave_depth": "1",
    "token_width": "16",
    "context": "16",
    "widths": "[8, 8, 8, 8]",
}


@pytest.fixture
def tiny_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    for config in ablations.CONFIGS.glob("*.toml"):
        text = config.read_text()
        for name, value in TINY.items():
            text = re.sub(rf"^{name} = .*", f"{name} = {value}", text, flags=re.MULTILINE)
        (folder / config.name).write_text(f"measured = 1\n{text}")
    monkeypatch.setattr(ablations, "CONFIGS", folder)


def test_every_configuration_can_be_read() -> None:
    for config in ablations.CONFIGS.glob("*.toml"):
        read_config(config, stage1.Stage1Config if config.name.startswith("stage1") else compact.CompactConfig)


@pytest.mark.slow(seconds=5)
@pytest.mark.usefixtures("tiny_configs")
def test_every_table_and_figure_comes_out_and_nothing_is_trained_twice(
    tmp_path: Path, photos: Path, lossless: Path
) -> None:
    arguments = ["--photos", photos, "--test", lossless, "--out", tmp_path / "out"]
    for what, rows, runs in (("table3", 4, 4), ("table4", 3, 4), ("fig7", 2, 0), ("fig4", 3, 0)):
        result = CliRunner().invoke(ablations.main, [what, *map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        told = [line for line in result.output.splitlines() if re.match(r"\| \w|\w+: silhouette", line)]
        assert len(told) == rows, what
        assert result.output.count("from step 0") == runs, what
        if what.startswith("fig"):
            assert (tmp_path / f"out/{what}.png").stat().st_size > 5000
