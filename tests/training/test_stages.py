"""Both stages learn, and a run that was stopped goes on to the same numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from codiff_batch.engine import Restorer
from tests.tiny_model import SIZES, make_tiny_model
from training import compact, export, stage1
from training.average import Average
from training.batches import _collate
from training.config import read_config
from training.degradation import Degrader
from training.loop import train
from training.recipe import Recipe
from training.run import averaged_weights
from training.schedule import Schedule

TINY = """
seed = 3
steps = {steps}
minutes = 0.0
patch = 32
batch = 2
threads = 1
measured = 1
"""
TINY_COMPACT = (
    TINY
    + "cave_width = 8\ncave_depth = 1\ntoken_width = 16\ncontext = 16\nwidths = [8, 8, 8, 8]\ndepths = [1, 1, 1, 1]\n"
)


def four_crops(count: int = 4, patch: int = 64, **shares: float):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (24, 24, 3)).astype(np.uint8))
    photo = np.asarray(small.resize((160, 160), Image.Resampling.BICUBIC))
    degrader = Degrader([photo], patch, Recipe(untouched=0, fine=0, qf_high=30, **shares), seed=0)
    return _collate([degrader.draw() for _ in range(count)])


def losses_of(module: torch.nn.Module, objective, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    history = []
    for _ in range(steps):
        loss = objective().total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        optimizer.step()
        history.append(loss.item())
    return history


@pytest.mark.slow
def test_stage_1_overfits_four_crops_by_both_objectives() -> None:
    torch.manual_seed(0)
    config = stage1.Stage1Config(width=16, depth=1, token_width=16)
    learner, batch = stage1.build(config), four_crops()
    before = stage1.objective(learner, batch, config).parts
    losses_of(learner, lambda: stage1.objective(learner, batch, config), 80)
    after = stage1.objective(learner, batch, config).parts
    assert after["qf_error"] < before["qf_error"] / 3
    assert after["restoration"] < before["restoration"] * 0.95


def test_stage_1_ablations_train_one_objective_only() -> None:
    batch = four_crops()
    for weights, silent in (({"implicit_weight": 0.0}, "decoder"), ({"explicit_weight": 0.0}, "cave.qf_head")):
        config = replace(stage1.Stage1Config(width=8, depth=1, token_width=8), **weights)
        learner = stage1.build(config)
        stage1.objective(learner, batch, config).total.backward()
        for name, parameter in learner.named_parameters():
            if name.startswith(silent):
                assert parameter.grad is None or not parameter.grad.any()


@pytest.mark.slow
def test_compact_generator_overfits_four_crops() -> None:
    torch.manual_seed(0)
    config = compact.CompactConfig(
        cave_width=8, cave_depth=1, token_width=16, context=16, widths=(16, 16, 16, 16), depths=(1, 1, 1, 1)
    )
    model, batch, perception = compact.CompactCODiff(config), four_crops(), compact.Perception(config, None)
    losses_of(model, lambda: compact.objective(model, batch, config, perception), 80)
    assert compact.objective(model, batch, config, perception).parts["gain"] > 0.5


def test_learning_rate_warms_up_and_ends_at_zero_by_steps_or_by_the_clock() -> None:
    by_steps, by_clock = Schedule(1.0, steps=100, warmup=10), Schedule(1.0, minutes=1, warmup=10)
    assert by_steps.rate_at(0, 0) == pytest.approx(0.1)
    assert by_steps.rate_at(50, 1e9) == pytest.approx(0.5)
    assert by_steps.progress(100, 0) == 1
    assert by_clock.rate_at(1000, 30) == pytest.approx(0.5)
    assert by_clock.progress(5, 60) == 1


def test_a_constant_rate_cools_down_over_the_last_part() -> None:
    schedule = Schedule(1.0, steps=100, warmup=10, cooldown=0.2)
    assert schedule.rate_at(4, 0) == pytest.approx(0.5)
    assert schedule.rate_at(10, 0) == 1
    assert schedule.rate_at(80, 0) == pytest.approx(1)
    assert schedule.rate_at(85, 0) == pytest.approx(0.5)
    assert schedule.rate_at(100, 0) == pytest.approx(0)
    assert Schedule(1.0, steps=100, warmup=0, cooldown=1.0).rate_at(0, 0) == 1


def run(command, *arguments: object) -> str:
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.parametrize("on_device", ["false", "true"])
def test_a_stopped_run_goes_on_to_the_same_numbers(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, on_device: str
) -> None:
    """Data, the discriminator's timesteps and noise, and both optimizers go on as if nothing had been."""
    config = tmp_path / "config.toml"
    config.write_text((TINY_COMPACT + f"gan_weight = 0.01\non_device = {on_device}\n").format(steps=4))

    def go_on(folder: str) -> str:
        return run(compact.main, config, "--photos", photos, "--out", tmp_path / folder, "--device", "cpu")

    go_on("through")

    def interrupted(self: Average, module: torch.nn.Module, step: int) -> None:
        if step == 2:
            raise InterruptedError
        update(self, module, step)

    update = Average.update
    monkeypatch.setattr(Average, "update", interrupted)
    monkeypatch.setattr(train, "__kwdefaults__", {**train.__kwdefaults__, "save_every": 0})
    with pytest.raises(InterruptedError):
        go_on("stopped")
    monkeypatch.undo()
    output = go_on("stopped")
    assert "from step 2" in output
    through, resumed = (averaged_weights(tmp_path / name) for name in ("through", "stopped"))
    assert all(torch.equal(through[name], resumed[name]) for name in through)


@pytest.mark.slow
def test_a_branch_begins_with_all_of_a_runs_state_on_its_own_schedule(tmp_path: Path, photos: Path) -> None:
    trunk, end = tmp_path / "trunk.toml", tmp_path / "end.toml"
    trunk.write_text(TINY_COMPACT.format(steps=3))
    end.write_text(TINY_COMPACT.format(steps=2) + "warmup = 0\ncooldown = 1.0\n")
    run(compact.main, trunk, "--photos", photos, "--out", tmp_path / "trunk")
    output = run(compact.main, end, "--photos", photos, "--branch", tmp_path / "trunk", "--out", tmp_path / "end")
    assert "from step 0" in output
    before, after = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("trunk", "end"))
    assert (before["step"], after["step"]) == (3, 2)
    steps = [state["optimizers"]["module"]["state"][0]["step"].item() for state in (before, after)]
    assert steps == [3, 5], "the optimizer went on"
    assert "from step 2" in run(
        compact.main, end, "--photos", photos, "--branch", tmp_path / "trunk", "--out", tmp_path / "end"
    )


def test_an_unknown_setting_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("stepz = 3")
    with pytest.raises(ValueError, match="unknown setting stepz"):
        read_config(path, stage1.Stage1Config)


@pytest.mark.slow
def test_both_stages_run_from_the_command_line_and_export_a_model_that_loads(tmp_path: Path, photos: Path) -> None:
    first, second = tmp_path / "stage1.toml", tmp_path / "compact.toml"
    first.write_text(TINY.format(steps=2) + "width = 8\ndepth = 1\ntoken_width = 16\n")
    second.write_text(TINY_COMPACT.format(steps=2))
    run(stage1.main, first, "--photos", photos, "--out", tmp_path / "s1")
    run(compact.main, second, "--photos", photos, "--cave", tmp_path / "s1", "--out", tmp_path / "s2")
    run(export.main, second, "--run", tmp_path / "s2", "--name", "mine", "--out", tmp_path / "mine")
    restorer = Restorer.load(tmp_path / "mine", "cpu")
    assert restorer.card.training["steps"] == 2
    assert restorer.restore(np.zeros((20, 30, 3), np.uint8)).shape == (20, 30, 3)


@pytest.mark.slow
def test_a_run_adds_texture_over_a_faithful_model_and_leaves_that_as_it_is(tmp_path: Path, photos: Path) -> None:
    faithful, with_texture = tmp_path / "compact.toml", tmp_path / "textured.toml"
    faithful.write_text(TINY_COMPACT.format(steps=1))
    tiny = TINY_COMPACT.format(steps=3).replace("patch = 32", "patch = 64")
    with_texture.write_text(tiny + "texture = true\ncave_share = 0.0\ngan_weight = 0.1\npatterns = 7\nrate = 0.5\n")
    run(compact.main, faithful, "--photos", photos, "--out", tmp_path / "first")
    run(export.main, faithful, "--run", tmp_path / "first", "--out", tmp_path / "plain")
    run(compact.main, with_texture, "--photos", photos, "--start", tmp_path / "plain", "--out", tmp_path / "second")
    over = ["--over", tmp_path / "plain", "--out", tmp_path / "textured"]
    run(export.main, with_texture, "--run", tmp_path / "second", "--name", "textured", *over)
    assert [file.name for file in (tmp_path / "textured").glob("*.safetensors")] == ["texture.safetensors"]
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    plain, textured = (Restorer.load(tmp_path / name, "cpu").restore_levels(pixels) for name in ("plain", "textured"))
    assert np.abs(textured - plain).max() > 0

    faithful.write_text(TINY_COMPACT.format(steps=2))
    run(compact.main, faithful, "--photos", photos, "--out", tmp_path / "another")
    run(export.main, faithful, "--run", tmp_path / "another", "--out", tmp_path / "plain")
    arguments = [with_texture, "--run", tmp_path / "second", *over]
    refused = CliRunner().invoke(export.main, [str(a) for a in arguments])
    assert refused.exit_code == 2
    assert "is not" in refused.output

    other = ["--texture-from", tmp_path / "plain", "--out", tmp_path / "textured"]
    refused = CliRunner().invoke(export.main, [str(a) for a in [with_texture, "--run", tmp_path / "second", *other]])
    assert refused.exit_code == 2 and "texture of its own" in refused.output

    (tmp_path / "plain" / "weights.safetensors").unlink()
    refused = CliRunner().invoke(export.main, [str(a) for a in arguments])
    assert "has no weights.safetensors of its own" in refused.output


@pytest.mark.slow
def test_a_faithful_run_takes_the_texture_of_a_model_along(tmp_path: Path, photos: Path) -> None:
    config = tmp_path / "compact.toml"
    textured = make_tiny_model(tmp_path / "textured", sizes={**SIZES, "texture": True, "texture_refines": True})
    loaded = {"textured": Restorer.load(textured, "cpu")}
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    for name, learns in (("on", "cave_share = 0.0\nrate = 0.3\n"), ("changed", "cave_share = 1.0\nrate = 0.3\n")):
        config.write_text(TINY_COMPACT.format(steps=2) + learns)
        run(compact.main, config, "--photos", photos, "--start", textured, "--out", tmp_path / f"run {name}")
        arguments = [config, "--run", tmp_path / f"run {name}", "--texture-from", textured, "--out", tmp_path / name]
        if name == "changed":
            refused = CliRunner().invoke(export.main, [str(a) for a in arguments])
            assert refused.exit_code == 2 and "has changed the CaVE" in refused.output
        else:
            run(export.main, *arguments)
            loaded[name] = Restorer.load(tmp_path / name, "cpu")
    (before, full), (after, still) = (
        [restorer.restore_levels(pixels, texture=amount) for amount in (0.0, 1.0)] for restorer in loaded.values()
    )
    assert np.abs(after - before).max() > 0.5
    assert compact.texture_weights(tmp_path / "on").keys() == compact.texture_weights(textured).keys()
    assert np.abs(still - after).max() > 0
    assert not np.array_equal(full, still)


@pytest.mark.slow
def test_texture_goes_on_over_another_faithful_model(tmp_path: Path, photos: Path) -> None:
    """Over a wider one, at its own widths; a rate of 0 leaves it as it was."""
    config = tmp_path / "texture.toml"
    wider = TINY_COMPACT.format(steps=1).replace("widths = [8, 8, 8, 8]", "widths = [12, 8, 8, 8]")
    config.write_text(wider + "texture = true\ntexture_widths = [8, 8, 8, 8]\ncave_share = 0.0\nrate = 0.0\n")
    faithful = make_tiny_model(tmp_path / "faithful", sizes={**SIZES, "widths": [12, 8, 8, 8]})
    textured = make_tiny_model(tmp_path / "textured", sizes={**SIZES, "texture": True})
    arguments = [config, "--photos", photos, "--out", tmp_path / "run", "--device", "cpu"]
    run(compact.main, *arguments, "--start", faithful, "--texture-from", textured)
    ours, theirs = averaged_weights(tmp_path / "run"), compact.texture_weights(textured)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    head = "generator.unet.head.weight"
    assert torch.equal(ours[head], compact.start_weights(faithful)[head])

    for refused in (["--start", faithful, "--texture-from", faithful], ["--texture-from", textured]):
        told = CliRunner().invoke(compact.main, [str(a) for a in [*arguments, *refused]])
        assert told.exit_code == 2
        assert "--texture-from" in told.output
