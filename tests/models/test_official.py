"""The authors' checkpoints become a model folder that gives what they gave; tiny widths, random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from codiff_batch.engine import Restorer
from codiff_batch.errors import CannotInstall
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import available
from codiff_batch.models.install import import_official
from codiff_batch.models.loading import load_networks
from codiff_batch.models.official import merge_adapters
from tests.official import Official, change_settings, fabricate

# diffusers and peft take seconds to import
pytestmark = [pytest.mark.slow, pytest.mark.floors, pytest.mark.xdist_group("diffusers")]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Official:
    return fabricate(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a smaller one, for what does not depend on how deep the networks are."""
    return fabricate(tmp_path_factory.mktemp("small"), small=True).codiff.parent


@pytest.fixture
def files(small: Path, tmp_path: Path) -> Path:
    """A copy of the files that a test may spoil."""
    return Path(shutil.copytree(small, tmp_path / "files"))


def install(files: Path, models: Path, **options: object) -> Path:
    return import_official(files / "codiff.pkl", files / "cave.pth", files / "base", models_dir=models, **options)


def test_an_imported_model_gives_what_a_stock_pipeline_gives_with_the_same_weights(
    official: Official, tmp_path: Path
) -> None:
    folder = install(official.codiff.parent, tmp_path, precision=torch.float32)
    _, networks = load_networks(folder)
    for height, width in ((64, 64), (64, 128), (128, 192)):
        image = torch.rand(2, 3, height, width)
        with torch.no_grad():
            tokens, qf = networks.cave(image)
            restored = networks.generator(image, tokens)
        expected = official.restore(image)
        assert tokens.shape == (2, height // 32 * (width // 32), 16)
        assert torch.allclose(qf, official.embedder(image)[1], atol=1e-4)
        assert torch.allclose(restored, expected, atol=2e-5)
        assert (restored - image).abs().max() > 0.05


def test_merged_adapters_equal_unmerged_ones(official: Official, tmp_path: Path) -> None:
    copy = fabricate(tmp_path)  # the same seed, so the same weights
    latent, tokens = torch.randn(1, 4, 16, 8), torch.randn(1, 3, 12)
    with torch.no_grad():
        before = official.unet(latent, 499, tokens).sample
        merge_adapters(copy.unet)
        after = copy.unet(latent, 499, tokens).sample
    assert not any("lora" in name for name, _ in copy.unet.named_modules())
    assert torch.allclose(before, after, atol=1e-5)


def test_the_model_folder_has_what_is_used_and_nothing_else(official: Official, tmp_path: Path) -> None:
    folder = install(official.codiff.parent, tmp_path)
    card = read_card(folder)
    assert sorted(card.files) == ["cave.safetensors", "projector.safetensors", "unet.safetensors", "vae.safetensors"]
    names = {name for file in card.files for name in load_file(folder / file)}
    assert not [name for name in names if "lora" in name]
    assert not [name for name in names if name.startswith(("cave.m_up", "cave.m_tail", "cave.m_body_decoder"))]
    weights = load_file(folder / "unet.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert card.training["base"] == str(official.base)
    assert len(card.training["codiff.pkl sha256"]) == 64
    assert card.licence
    (entry,) = (e for e in available(tmp_path) if e.name == "codiff-sd21")
    assert entry.status == "installed"
    assert entry.size_bytes > 100_000


def test_it_restores_pictures_of_any_size_to_the_same_bytes_each_time(small: Path, tmp_path: Path) -> None:
    folder = install(small, tmp_path)
    one, other = (Restorer.load(folder, "cpu", tile=128) for _ in range(2))
    for size in ((64, 64), (20, 31), (100, 333)):
        pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
        first, second = (restorer.restore(pixels) for restorer in (one, other))
        assert first.shape == pixels.shape
        assert np.array_equal(first, second)


def test_a_base_in_half_precision_files_will_do(files: Path, tmp_path: Path) -> None:
    for part in ("unet", "vae"):
        file = files / "base" / part / "diffusion_pytorch_model.safetensors"
        file.rename(file.with_suffix(".fp16.safetensors").with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert install(files, tmp_path / "models").is_dir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "codiff.pkl").write_text("<!DOCTYPE html><html>Google Drive"), "web page"),
        (lambda f: (f / "cave.pth").write_bytes((f / "cave.pth").read_bytes()[:3000]), "download is incomplete"),
        (lambda f: (f / "cave.pth").unlink(), "does not exist"),
        (lambda f: shutil.copy(f / "cave.pth", f / "codiff.pkl"), "of another model"),
        (lambda f: torch.save({"a": Path("x")}, f / "codiff.pkl"), "plain weights"),
        (lambda f: change_state(f / "codiff.pkl", "rank_unet", 8), "does not fit"),
        (lambda f: drop_adapter(f / "codiff.pkl"), "is missing"),
        (lambda f: shutil.rmtree(f / "base/vae"), "has no vae"),
        (
            lambda f: change_settings(f / "base/scheduler/scheduler_config.json", prediction_type="v_prediction"),
            "768-pixel",
        ),
        (lambda f: change_settings(f / "base/unet/config.json", sample_size=96), "768-pixel"),
        (lambda f: change_settings(f / "base/unet/config.json", cross_attention_dim=24), "cannot be loaded"),
        (lambda f: (f / "base/unet/config.json").write_text("<html>"), "config.json"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_and_leaves_nothing(
    files: Path, tmp_path: Path, spoil, message: str
) -> None:
    spoil(files)
    with pytest.raises(CannotInstall, match=message) as caught:
        install(files, tmp_path / "models")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "models").exists()


def test_an_installed_model_is_replaced_only_when_asked(small: Path, tmp_path: Path) -> None:
    folder = install(small, tmp_path)
    before = (folder / "model.json").read_bytes()
    with pytest.raises(CannotInstall, match="already exists"):
        install(small, tmp_path)
    assert (folder / "model.json").read_bytes() == before
    install(small, tmp_path, replace_existing=True, precision=torch.bfloat16)
    assert (folder / "model.json").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == [folder.name]


def test_an_interrupted_import_leaves_nothing_half_made(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codiff_batch.models import install as module
    from codiff_batch.models import loading

    monkeypatch.setattr(module, "sha256_of", fails_second := Fails(module.sha256_of, after=3))
    monkeypatch.setattr(loading, "sha256_of", fails_second)
    with pytest.raises(CannotInstall, match="No space left"):
        install(small, tmp_path)
    assert fails_second.count > 3
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


class Fails:
    """Calls a function, and from some time on says that the disk is full."""

    def __init__(self, function, after: int) -> None:
        self.function, self.after, self.count = function, after, 0

    def __call__(self, *arguments: object) -> object:
        self.count += 1
        if self.count > self.after:
            raise OSError(28, "No space left on device")
        return self.function(*arguments)


def change_state(file: Path, name: str, value: object) -> None:
    torch.save({**torch.load(file, weights_only=True), name: value}, file)


def drop_adapter(file: Path) -> None:
    values = torch.load(file, weights_only=True)
    values["state_dict_unet"].popitem()
    torch.save(values, file)
