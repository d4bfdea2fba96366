"""What goes wrong with one photo between the threads is told of that photo, and the others go on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind
from codiff_batch.batch.pipeline import run_pipeline
from codiff_batch.batch.plan import Task, plan
from codiff_batch.batch.process import PhotoSteps, Work
from codiff_batch.batch.run import run
from codiff_batch.engine import Restorer
from codiff_batch.errors import DeviceUnavailable
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    return Restorer.load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny"), "cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(3):
        write(tmp_path / f"p/{index}.jpg", jpeg(20, image=scene(48, 48, seed=index)))
    return tmp_path / "p"


def test_one_photo_that_cave_cannot_look_at_fails_alone(
    photos: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):  # Good ones, as far as their headers tell.
        write(photos / f"{index}.jpg", jpeg(92, image=scene(48, 48, seed=index)))
    options = BatchOptions((photos,), model="no-such-model", dry_run=True, jobs=1)
    judging: list[Task] = []
    looked: list[int] = []
    embed = restorer.embed_crops

    def loaded() -> Restorer:
        """The model, once all photos wait for it."""
        while len(judging) < 3:
            time.sleep(0.001)
        time.sleep(0.1)
        return restorer

    def embed_crops(pictures: Sequence[Any]) -> Any:
        looked.append(len(pictures))
        if len(looked) in (1, 3):
            raise ZeroDivisionError("no crop")
        return embed(pictures)

    monkeypatch.setattr(restorer, "embed_crops", embed_crops)
    tasks = plan(options)
    told = {
        outcome.source.name: outcome.reason
        for outcome in run_pipeline(
            options, tasks, restorer=loaded, stage=lambda task, doing: doing == "judging" and judging.append(task)
        )
    }
    assert looked == [3, 1, 1, 1]
    assert told["1.jpg"] == "unexpected ZeroDivisionError: no crop"
    assert "unexpected" not in told["0.jpg"] + told["2.jpg"]


def test_an_outcome_that_cannot_be_written_down_is_told_all_the_same(
    photos: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = PhotoSteps.record

    def refuse(self: PhotoSteps, work: Work) -> None:
        if work.task.source.name == "1.jpg":
            raise OverflowError("too large a number")
        record(self, work)

    monkeypatch.setattr(PhotoSteps, "record", refuse)
    options = BatchOptions((photos,), model="no-such-model")
    ended = [outcome.outcome for outcome in run_pipeline(options, plan(options), restorer=lambda: restorer)]
    assert ended == 3 * [Kind.RESTORED]
    assert caplog.messages == [f"{photos / '1.jpg'} cannot be recorded: too large a number"]


def test_a_device_that_is_named_is_looked_for_before_any_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = make_tiny_model(tmp_path / "tiny"), []

    def choose(name: str) -> None:
        asked.append(name)
        raise DeviceUnavailable("not there")

    monkeypatch.setattr("codiff_batch.engine.device.choose_device", choose)
    for devices in (("auto",), ("cpu", "cpu"), ("cpu", "cuda:7")):
        options = BatchOptions((tmp_path / "empty",), model=str(model), devices=devices, dry_run=True)
        (tmp_path / "empty").mkdir(exist_ok=True)
        if "cuda:7" in devices:
            with pytest.raises(DeviceUnavailable):
                list(run(options))
        else:
            assert list(run(options)) == []
    assert asked == ["cuda:7"]
