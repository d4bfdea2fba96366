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
        if "widths" in text:
            text = f"measured = 1\n{text}"
        (folder / config.name).write_text(text)
    monkeypatch.setattr(ablations, "CONFIGS", folder)


def test_every_configuration_can_be_read() -> None:
    for config in ablations.CONFIGS.glob("*.toml"):
        read_config(config, stage1.Stage1Config if config.name.startswith("stage1") else compact.CompactConfig)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_configs")
@pytest.mark.parametrize(("what", "rows"), [("table3", 4), ("table4", 3), ("fig7", 2), ("fig4", 3)])
def test_a_table_or_figure_comes_out(
    tmp_path: Path,
    photos: Path,
    lossless: Path,
    what: str,
    rows: int,
) -> None:
    arguments = ["--photos", photos, "--test", lossless, "--out", tmp_path / "out"]
    result = CliRunner().invoke(ablations.main, [what, *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told = [line for line in result.output.splitlines() if re.match(r"\| \w|\w+: silhouette", line)]
    assert len(told) == rows
    if what.startswith("fig"):
        assert (tmp_path / f"out/{what}.png").stat().st_size > 5000
