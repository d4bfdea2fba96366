"""Checkpoints that strangers made: one line each, nothing run, no memory taken, nothing left behind."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from codiff_batch.errors import CannotInstall
from codiff_batch.models.official import _tensors, import_networks
from codiff_batch.networks.cave import DualCaVE
from tests import warm
from tests.official import Official, fabricate

# diffusers and peft take seconds to import
pytestmark = [pytest.mark.slow, pytest.mark.floors, pytest.mark.xdist_group("diffusers")]
KEYS = ("m_head.weight", "m_down1.0.res.0.weight", "m_body_encoder.0.res.0.weight")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Official:
    return fabricate(tmp_path_factory.mktemp("official"), small=True)


def zipped(file: Path, data: bytes, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


class Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("/tmp/codiff-batch-checkpoint-ran"),))


def widened(value: torch.Tensor) -> torch.Tensor:
    """Four bytes that say they are a terabyte."""
    return torch.zeros(1).expand(10**6, 10**6)


CAVES: dict[str, Callable[[Path], None]] = {
    "keys without tensors": lambda f: torch.save(dict.fromkeys(KEYS, 5), f),
    "texts": lambda f: torch.save(dict.fromkeys(KEYS, "x"), f),
    "numbers for keys": lambda f: torch.save({**dict.fromkeys(KEYS, torch.zeros(4)), 5: torch.zeros(1)}, f),
    "no dimensions": lambda f: torch.save({key: torch.zeros(()) for key in KEYS}, f),
    "a terabyte": lambda f: torch.save({key: widened(torch.zeros(1)) for key in KEYS}, f),
    "sparse": lambda f: torch.save({key: torch.zeros(4, 4).to_sparse() for key in KEYS}, f),
    "a command": lambda f: zipped(f, pickle.dumps(Payload(), 2)),
    "cut off": lambda f: zipped(f, pickle.dumps({"a": 1}, 2)[:-3]),
    "empty": lambda f: zipped(f, b""),
    "no such memo": lambda f: zipped(f, b"\x80\x02h\x99."),
    "odd opcodes": lambda f: zipped(f, b"\x80\x02)K\x01K\x02s."),
    "bad text": lambda f: zipped(f, b"\x80\x02X\x02\x00\x00\x00\xff\xfe."),
    "nested deeply": lambda f: zipped(f, b"\x80\x02)" + b"\x85" * 100_000 + b"."),
    "another zip": lambda f: zipfile.ZipFile(f, "w").writestr("x.txt", "x"),
    "a pipe": os.mkfifo,
    "a folder": lambda f: f.mkdir(),
}


@pytest.mark.parametrize("kind", CAVES)
def test_a_hostile_cave_gets_one_line(official: Official, tmp_path: Path, kind: str) -> None:
    CAVES[kind](tmp_path / "cave.pth")
    with pytest.raises(CannotInstall) as caught:
        import_networks(official.codiff, tmp_path / "cave.pth", official.base)
    assert "\n" not in str(caught.value)
    assert not Path("/tmp/codiff-batch-checkpoint-ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"proj": 5}, {"proj": {}}, {"rank_unet": "x"}, {"rank_unet": 10**9}, {"rank_vae": True},
        {"unet_lora_encoder_modules": 5}, {"unet_lora_encoder_modules": [5]}, {"vae_lora_encoder_modules": ["gone"]},
        {"state_dict_unet": {"x": 1}}, {"state_dict_vae": [1]},
    ],
)  # fmt: skip
def test_adapters_of_the_wrong_kind_get_one_line(official: Official, tmp_path: Path, change: dict[str, object]) -> None:
    torch.save({**torch.load(official.codiff, weights_only=True), **change}, tmp_path / "codiff.pkl")
    with pytest.raises(CannotInstall) as caught:
        import_networks(tmp_path / "codiff.pkl", official.cave, official.base)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_compressed_archive_is_not_unpacked(tmp_path: Path, official: Official) -> None:
    zipped(tmp_path / "bomb.pth", b"\x80\x02" + bytes(300_000_000), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pth").stat().st_size < 1_000_000
    script = (
        "import sys, resource\nfrom pathlib import Path\n"
        "from codiff_batch.models.official import import_networks\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: import_networks(*map(Path, sys.argv[1:]))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [*warm.script(script), official.codiff, tmp_path / "bomb.pth", official.base]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    words, grown = ran.stdout.splitlines()
    assert "CannotInstall" in words
    assert "is compressed; checkpoints never are" in words
    assert int(grown) < 100_000  # kilobytes


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("unet/config.json", "[1]"), ("unet/config.json", "[" * 100_000), ("scheduler/scheduler_config.json", "5"),
        ("vae/config.json", '{"layers_per_block": 1e5}'),
        ("unet/config.json", '{"sample_size": 64, "block_out_channels": [1000000]}'),
        ("unet/config.json", '{"up_block_types": ["a"], "layers_per_block": 64, "transformer_layers_per_block": 64}'),
    ],
)  # fmt: skip
def test_a_hostile_base_gets_one_line(official: Official, tmp_path: Path, file: str, text: str) -> None:
    base = Path(shutil.copytree(official.base, tmp_path / "base"))
    (base / file).write_text(text)
    with pytest.raises(CannotInstall) as caught:
        import_networks(official.codiff, official.cave, base)
    assert "\n" not in str(caught.value)


def test_pickles_in_a_base_are_never_read(official: Official, tmp_path: Path) -> None:
    base = Path(shutil.copytree(official.base, tmp_path / "base"))
    weights = base / "unet/diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.with_suffix(".bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CannotInstall, match="cannot be loaded"):
        import_networks(official.codiff, official.cave, base)
    assert not Path("/tmp/codiff-batch-checkpoint-ran").exists()


def test_widths_that_no_memory_holds_are_refused(official: Official, tmp_path: Path) -> None:
    with torch.device("meta"):
        state = DualCaVE([4, 8, 16, 32], 1).state_dict()
    state = {key: torch.zeros(()).expand(value.shape) for key, value in state.items()}
    torch.save(state, tmp_path / "cave.pth")
    with pytest.raises(CannotInstall):
        import_networks(official.codiff, tmp_path / "cave.pth", official.base)


def test_a_tensor_that_says_it_is_more_than_its_file_holds_is_refused() -> None:
    with pytest.raises(CannotInstall, match="not a plain tensor"):
        _tensors(Path("cave.pth"), {"weight": widened(torch.zeros(1))})
    with pytest.raises(CannotInstall, match="not a plain tensor"):
        _tensors(Path("cave.pth"), {"weight": torch.zeros(4, device="meta")})
    assert _tensors(Path("cave.pth"), {"weight": torch.zeros(4)})
