"""Stage 2 of the paper at tiny width: it learns, resumes to the same numbers, and its adapters reach the engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from codiff_batch.models.install import import_official
from codiff_batch.models.loading import load_networks
from tests.official import WIDTHS, Official, fabricate
from tests.training.conftest import noise
from tests.training.test_stages import four_crops, run
from training import release, stage1, stage2
from training.average import Average, load_learned_state
from training.loop import train
from training.run import averaged_weights

CONFIG = """
steps = {steps}
batch = 2
patch = 64
rate = 1e-3
threads = 1
rank = 4
cave_widths = [8, 8, 16, 16]
cave_depth = 1
dists_weight = 0.0
gan_weight = 5e-3
prompt_tokens = 5
measured = 1
"""
STAGE1 = """
steps = 2
batch = 2
patch = 64
threads = 1
measured = 1
layout = "paper"
widths = [8, 8, 16, 16]
depth = 1
"""
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("diffusers")]  # diffusers and peft take seconds to import
NETWORKS = Path(__file__).resolve().parents[3] / "shared/data/networks"


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Official:
    """Only its base model is used."""
    return fabricate(tmp_path_factory.mktemp("official"), small=True)


@pytest.fixture(scope="module")
def cave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage1")
    config = folder / "stage1.toml"
    config.write_text(STAGE1)
    run(stage1.main, config, "--photos", noise(folder), "--out", folder / "run", "--device", "cpu")
    return folder / "run"


def settings(tmp_path: Path, steps: int) -> tuple[Path, stage2.Stage2Config]:
    file = tmp_path / "stage2.toml"
    file.write_text(CONFIG.format(steps=steps))
    return file, stage2.read_config(file, stage2.Stage2Config)


def test_losses_fall_on_four_crops_and_every_part_learns(tmp_path: Path, official: Official, cave: Path) -> None:
    _, config = settings(tmp_path, 1)
    torch.manual_seed(0)
    model, adversary = stage2.build(config, official.base, cave)
    assert adversary is not None
    batch = four_crops(4, 64, gray=0.0)
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {"projector.weight", "unet.unet.conv_in.base_layer.weight"} <= set(learning)
    assert all("lora" in name or "conv_in" in name or "projector" in name for name in learning)
    before = {name: parameter.detach().clone() for name, parameter in learning.items()}
    player = torch.optim.AdamW(learning.values(), lr=3e-3)
    rival = torch.optim.AdamW([p for p in adversary.parameters() if p.requires_grad], lr=1e-3)
    history = []
    for _ in range(15):
        loss = stage2.objective(model, batch, config, None, adversary, model)
        player.zero_grad()
        loss.total.backward()
        player.step()
        rival.zero_grad()
        adversary(loss.real, loss.fake).backward()
        rival.step()
        history.append(loss.parts["l2"])
    assert history[-1] < 0.8 * history[0]
    unchanged = [name for name, parameter in learning.items() if torch.equal(parameter, before[name])]
    assert unchanged == []


def test_the_gans_gradient_reaches_the_generator(tmp_path: Path, official: Official, cave: Path) -> None:
    """It does not in the released code, whose discriminator judges without gradients."""
    _, config = settings(tmp_path, 1)
    model, adversary = stage2.build(config, official.base, cave)
    assert adversary is not None
    _, fake = model(four_crops(2, 64).compressed)
    adversary.generator_loss(fake).backward()
    assert model.projector.weight.grad is not None
    reached = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert any("unet" in name and "lora" in name for name in reached)
    assert any("autoencoder" in name for name in reached)
    assert all(p.grad is None for p in adversary.parameters())


def test_the_real_latent_is_the_base_models(tmp_path: Path, official: Official, cave: Path) -> None:
    _, config = settings(tmp_path, 1)
    model, _ = stage2.build(config, official.base, cave)
    image = torch.rand(1, 3, 64, 64)
    before = model.real_latent(image)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    assert torch.equal(model.real_latent(image), before)
    assert not torch.equal(model.autoencoder.encode(image * 2 - 1), before)


@pytest.mark.skipif(not NETWORKS.is_dir(), reason="needs the backbone of DISTS")
def test_the_papers_three_losses_go_together(tmp_path: Path, official: Official, cave: Path, photos: Path) -> None:
    file, _ = settings(tmp_path, 2)
    file.write_text(file.read_text().replace("dists_weight = 0.0", "dists_weight = 1.0"))
    arguments = ("--photos", photos, "--base", official.base, "--cave", cave, "--networks", NETWORKS)
    output = run(stage2.main, file, *arguments, "--out", tmp_path / "s2", "--device", "cpu")
    assert "validation at step 2" in output
    assert "dists" in output


@pytest.mark.slow(seconds=20)
def test_stopped_resumed_released_and_imported(
    tmp_path: Path,
    official: Official,
    cave: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, config = settings(tmp_path, 3)

    def go_on(folder: str) -> None:
        arguments = ("--photos", photos, "--base", official.base, "--cave", cave, "--device", "cpu")
        run(stage2.main, file, *arguments, "--out", tmp_path / folder)

    go_on("through")
    update = Average.update

    def interrupted(self: Average, module: torch.nn.Module, step: int) -> None:
        if step == 2:
            raise InterruptedError
        update(self, module, step)

    monkeypatch.setattr(Average, "update", interrupted)
    monkeypatch.setattr(train, "__kwdefaults__", {**train.__kwdefaults__, "save_every": 0})
    with pytest.raises(InterruptedError):
        go_on("stopped")
    monkeypatch.undo()
    go_on("stopped")
    through, resumed = (averaged_weights(tmp_path / name) for name in ("through", "stopped"))
    assert all(torch.equal(through[name], resumed[name]) for name in through)
    assert not [name for name in through if "resnets" in name and "lora" not in name], "the base is not kept twice"

    arguments = ("--stage1", cave, "--stage2", tmp_path / "through", "--base", official.base)
    run(release.main, file, *arguments, "--out", tmp_path / "released")
    released = tmp_path / "released"
    folder = import_official(
        released / "codiff.pkl",
        released / "cave.pth",
        official.base,
        models_dir=tmp_path / "models",
        precision=torch.float32,
    )
    _, networks = load_networks(folder)
    model, _ = stage2.build(config, official.base, cave)
    load_learned_state(model, through)
    model.eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, _ = model(image)
        restored = networks.generator(image, networks.cave(image)[0])
    assert torch.allclose(restored, expected, atol=2e-5)
    assert networks.cave.m_head.weight.shape[0] == WIDTHS[0]


def test_without_the_backbone_the_error_names_the_option(tmp_path: Path, official: Official, photos: Path) -> None:
    file, _ = settings(tmp_path, 1)
    file.write_text(file.read_text().replace("dists_weight = 0.0", "dists_weight = 1.0"))
    arguments = [file, "--photos", photos, "--base", official.base, "--cave", tmp_path, "--out", tmp_path / "o"]
    result = CliRunner().invoke(stage2.main, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert "--networks" in result.output
