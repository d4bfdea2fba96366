"""``codiff-batch doctor``: what there is, and what is wrong with its cure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from codiff_batch import doctor
from codiff_batch.cli.doctor_command import doctor_command
from tests.tiny_model import make_tiny_model


@pytest.fixture(autouse=True)
def bare_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without GIMP, ComfyUI, and the bundled models, which take seconds."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIMP3_DIRECTORY", str(tmp_path / "gimp"))
    monkeypatch.setattr("codiff_batch.models.catalogue.BUNDLED", tmp_path / "bundled")
    make_tiny_model(tmp_path / "bundled/tiny", tile=512)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(doctor_command, arguments, catch_exceptions=False)
    return result.exit_code, result.output


@pytest.mark.slow
def test_a_sound_machine_is_told_so() -> None:
    code, output = run("--device", "cpu")
    assert code == 0, output
    assert output.endswith("no problems found\n")
    for words in (
        "torch ",
        "GB of memory",
        "used for 'cpu': cpu",
        "tiny: float32 on cpu",
        "per megapixel (measured now)",
    ):
        assert words in output


@pytest.mark.slow
def test_a_device_that_is_not_there_is_wrong() -> None:
    code, output = run("--device", "cuda:99")
    assert code == 4
    assert "problems:\n  - device 'cuda:99'" in output


@pytest.mark.slow
def test_a_card_that_torch_cannot_use_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_has_nvidia_card", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", None)
    _, output = run("--device", "cpu")
    assert "there is an NVIDIA card, but torch was built without CUDA; install one that has it" in output


@pytest.mark.slow
def test_a_damaged_model_is_wrong_and_the_others_are_timed(bare_home: Path) -> None:
    (bare_home / "installed/broken").mkdir(parents=True)
    (bare_home / "installed/broken/model.json").write_text("{")
    weights = make_tiny_model(bare_home / "installed/changed") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    code, output = run("--device", "cpu", "--models-dir", str(bare_home / "installed"))
    assert code == 4
    assert "  - broken: " in output
    assert "  - changed cannot be used: " in output
    assert "tiny: float32" in output


@pytest.mark.slow
def test_comfyui_is_found_with_its_nodes(bare_home: Path) -> None:
    (bare_home / "ComfyUI/custom_nodes/codiff/nodes").mkdir(parents=True)
    assert "ComfyUI: without the nodes" in run("--device", "cpu")[1]
    (bare_home / "ComfyUI/custom_nodes/codiff/nodes/restoring.py").touch()
    assert "ComfyUI: with the nodes in codiff" in run("--device", "cpu")[1]
