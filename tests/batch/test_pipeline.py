"""What goes wrong with one photo between the threads is told of that photo, and the others go on."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from codiff_batch.batch import pipeline
from codiff_batch.batch.admission import Patience
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Step
from codiff_batch.batch.pipeline import run_pipeline
from codiff_batch.batch.plan import Task, plan
from codiff_batch.batch.process import PhotoSteps, Stage, Work
from codiff_batch.batch.run import run
from codiff_batch.engine import Restorer, photo
from codiff_batch.engine.judge import Ground
from codiff_batch.errors import DeviceUnavailable, FolderUnavailable
from codiff_batch.jpeg.pillow_pixels import PillowPixels
from codiff_batch.settings import Judging, Settings
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


@pytest.mark.parametrize(
    ("quality", "by", "settings"),
    [
        (92, ["read"], {}),
        (92, ["read"], {"dry_run": True}),
        (20, ["read"], {}),
        (20, [], {"settings": Settings(qf=20)}),
    ],
)
def test_traces_are_searched_for_beside_the_device_and_once(
    quality: int,
    by: list[str],
    settings: dict[str, Any],
    tmp_path: Path,
    restorer: Restorer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crushed photo needs none for its verdict, but what the network is told of its tables depends on them."""
    searched: list[str] = []
    look_back = photo.look_back

    def search(*arguments: Any) -> Any:
        searched.append(threading.current_thread().name)
        return look_back(*arguments)

    monkeypatch.setattr(photo, "look_back", search)
    write(tmp_path / "p/a.jpg", jpeg(quality, image=scene(300, 200)))
    options = BatchOptions((tmp_path / "p",), model="no-such-model", **settings)
    assert len(list(run_pipeline(options, plan(options), restorer=lambda: restorer))) == 1
    assert [name.split()[0] for name in searched] == by


def saved_again() -> bytes:
    with Image.open(io.BytesIO(jpeg(20, image=scene(300, 200)))) as crushed:
        return jpeg(95, image=crushed, subsampling=0)


@pytest.mark.parametrize(
    ("data", "dry_run", "by"),
    [
        (jpeg(92, image=scene(300, 200)), True, []),
        (saved_again(), True, []),
        (saved_again(), False, ["read"]),
        (jpeg(20, image=scene(300, 200)), False, ["read"]),
    ],
    ids=["good", "saved again, dry run", "saved again", "crushed"],
)
def test_a_photo_is_copied_from_the_decoder_only_to_be_restored_and_beside_the_device(
    data: bytes, dry_run: bool, by: list[str], tmp_path: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    copy = PillowPixels._copy

    def record(pixels: PillowPixels, image: Image.Image) -> Any:
        copied.append(threading.current_thread().name)
        return copy(pixels, image)

    monkeypatch.setattr(PillowPixels, "_copy", record)
    write(tmp_path / "p/a.jpg", data)
    options = BatchOptions((tmp_path / "p",), model="no-such-model", dry_run=dry_run)
    (outcome,) = run_pipeline(options, plan(options), restorer=lambda: restorer)
    assert by == [] or outcome.outcome is Kind.RESTORED
    assert [name.split()[0] for name in copied] == by


def test_one_photo_that_there_is_no_memory_to_copy_fails_alone(
    tmp_path: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good by their headers and without traces, but not in CaVE's eyes: copied only after the verdict."""
    for index in range(3):
        write(tmp_path / f"p/{index}.jpg", jpeg(92, image=scene(300, 200, seed=index)))
    copy = PillowPixels._copy
    copies = iter(range(1, 1000))

    def scarce(pixels: PillowPixels, image: Image.Image) -> Any:
        if next(copies) == 1:
            raise MemoryError
        return copy(pixels, image)

    monkeypatch.setattr(PillowPixels, "_copy", scarce)
    options = BatchOptions((tmp_path / "p",), model="no-such-model", judging=Judging(min_qf=90))
    outcomes = list(run_pipeline(options, plan(options), restorer=lambda: restorer))
    assert sorted(outcome.outcome for outcome in outcomes) == ["failed", "restored", "restored"]
    assert {outcome.code for outcome in outcomes} >= {Ground.PIXELS}


class LoadedLate:
    """A model that is not there before three photos wait for it."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer, self._waiting = restorer, list[Task]()

    def stage(self, task: Task, doing: str) -> None:
        if doing == "judging":
            self._waiting.append(task)

    def loaded(self) -> Restorer:
        while len(self._waiting) < 3:
            time.sleep(0.001)
        time.sleep(0.1)
        return self._restorer


def test_one_photo_that_cave_cannot_look_at_fails_alone(
    photos: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):  # Good ones, as far as their headers tell.
        write(photos / f"{index}.jpg", jpeg(92, image=scene(48, 48, seed=index)))
    options = BatchOptions((photos,), model="no-such-model", dry_run=True, jobs=1)
    model = LoadedLate(restorer)
    looked: list[int] = []
    embed = restorer.embed_crops

    def embed_crops(pictures: Sequence[Any], *, glance: bool) -> Any:
        looked.append(len(pictures))
        if len(looked) in (1, 3):
            raise ZeroDivisionError("no crop")
        return embed(pictures, glance=glance)

    monkeypatch.setattr(restorer, "embed_crops", embed_crops)
    tasks = plan(options)
    told = {
        outcome.source.name: outcome.reason
        for outcome in run_pipeline(options, tasks, restorer=model.loaded, stage=model.stage)
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


def test_a_photo_that_cannot_be_looked_at_fails_alone(photos: Path, restorer: Restorer) -> None:
    gone, nul = photos / "gone.jpg", photos / "nu\0l.jpg"
    options = BatchOptions((photos, gone), names=(nul,), output=photos.with_name("out"), model="no-such-model")
    ended = {
        outcome.source: outcome.outcome for outcome in run_pipeline(options, plan(options), restorer=lambda: restorer)
    }
    assert ended == {gone: Kind.FAILED, nul: Kind.FAILED} | dict.fromkeys(photos.iterdir(), Kind.RESTORED)


def test_a_photo_that_can_be_opened_but_not_decoded_fails_alone(photos: Path, restorer: Restorer) -> None:
    data = bytearray((photos / "1.jpg").read_bytes())
    data[data.index(b"\xff\xda") + 6] = 0x33  # Huffman tables that are not there.
    write(photos / "1.jpg", bytes(data))
    options = BatchOptions((photos,), model="no-such-model")
    ended = {
        outcome.source.name: outcome for outcome in run_pipeline(options, plan(options), restorer=lambda: restorer)
    }
    assert [ended[name].outcome for name in sorted(ended)] == [Kind.RESTORED, Kind.FAILED, Kind.RESTORED]
    assert ended["1.jpg"].reason.startswith("cannot be decoded")


def test_no_more_photos_are_drawn_than_may_be_under_way(photos: Path, restorer: Restorer) -> None:
    options = BatchOptions((photos,), model="no-such-model")
    drawn: list[Task] = []

    def tasks(planned: Sequence[Task]) -> Iterator[Task]:
        for task in planned:
            drawn.append(task)
            yield task

    for count, _ in enumerate(run_pipeline(options, tasks(plan(options)), restorer=lambda: restorer, under_way=1), 1):
        assert len(drawn) == count
    broken = [Task(Path(f"{index}.jpg"), Path(), Path(), Path(), error="broken") for index in range(100)]
    for jobs, usual in ((1, 32), (10, 40)):
        drawn.clear()
        next(run_pipeline(replace(options, jobs=jobs), tasks(broken)))
        assert len(drawn) == usual


def works_of(
    options: BatchOptions, restorer: Callable[[], Restorer], stage: Stage = lambda task, doing: None
) -> list[Work]:
    """All photos of a run, once they are settled."""
    works: list[Work] = []

    def begin(task: Task) -> Work:
        works.append(Work(task))
        return works[-1]

    ended = list(run_pipeline(options, plan(options), restorer=restorer, begin=begin, stage=stage))
    assert len(ended) == len(works)
    return works


def test_a_photo_that_is_settled_keeps_no_memory(photos: Path, restorer: Restorer) -> None:
    works = works_of(BatchOptions((photos,), model="no-such-model"), lambda: restorer)
    assert len(works) == 3
    for work in works:
        assert (work.contents, work.recall) == (None, None)


def test_photos_to_restore_are_looked_at_one_by_one_however_many_wait(
    photos: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch the network rounds otherwise, so bytes would depend on which photos happened to have arrived."""
    embed, model, looked = restorer.embed_crops, LoadedLate(restorer), list[int]()

    def embed_crops(pictures: Sequence[Any], *, glance: bool) -> Any:
        looked.append(len(pictures))
        return embed(pictures, glance=glance)

    monkeypatch.setattr(restorer, "embed_crops", embed_crops)
    works_of(BatchOptions((photos,), model="no-such-model"), model.loaded, model.stage)
    assert looked == [1, 1, 1]


def test_the_time_that_each_step_took_is_noted(
    photos: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work,) = works_of(BatchOptions((photos / "0.jpg",), model="no-such-model"), lambda: restorer)
    assert set(work.steps) == set(Step)
    for path in photos.iterdir():
        write(path, jpeg(92, image=scene(48, 48)))
    embed, model = restorer.embed_crops, LoadedLate(restorer)

    def slowly(pictures: Sequence[Any], *, glance: bool) -> Any:
        time.sleep(0.3)
        return embed(pictures, glance=glance)

    monkeypatch.setattr(restorer, "embed_crops", slowly)
    together = works_of(BatchOptions((photos,), model="no-such-model", dry_run=True, jobs=1), model.loaded, model.stage)
    assert len(together) == 3
    assert all(work.steps[Step.JUDGE] >= 0.1 for work in together)


def test_what_was_not_begun_when_a_run_is_stopped_has_no_outcome(photos: Path, restorer: Restorer) -> None:
    options, stop = BatchOptions((photos,), model="no-such-model", jobs=1), threading.Event()
    stages: list[str] = []

    def stage(task: Task, doing: str) -> None:
        stages.append(doing)
        if doing == "judging":
            stop.set()

    assert list(run_pipeline(options, plan(options), restorer=lambda: restorer, stage=stage, stop=stop)) == []
    assert stages == ["reading", "judging"]
    assert list(run_pipeline(options, plan(options), restorer=lambda: restorer, stage=stage, stop=stop)) == []
    assert stages == ["reading", "judging"]
    assert not photos.with_name("p-restored").exists()


def test_a_photo_on_the_device_when_a_run_is_stopped_is_finished(photos: Path, restorer: Restorer) -> None:
    options, stop = BatchOptions((photos / "0.jpg",), model="no-such-model"), threading.Event()

    def stage(task: Task, doing: str) -> None:
        if doing.startswith("restoring"):
            stop.set()

    ended = list(run_pipeline(options, plan(options), restorer=lambda: restorer, stage=stage, stop=stop))
    assert [outcome.outcome for outcome in ended] == [Kind.RESTORED]
    assert stop.is_set()


def test_a_run_that_was_asked_to_stop_at_once_does_nothing(photos: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    model = str(make_tiny_model(tmp_path / "tiny"))
    for dry_run in (True, False):
        assert list(run(BatchOptions((photos,), model=model, dry_run=dry_run), stop=stop)) == []


def test_what_a_run_that_died_left_is_removed_by_the_next(photos: Path, tmp_path: Path) -> None:
    left = write(photos.with_name("p-restored") / ".codiff-batch-all-dead.tmp", b"half")
    options = BatchOptions((photos,), model=str(make_tiny_model(tmp_path / "tiny")))
    assert [outcome.outcome for outcome in run(options)] == 3 * [Kind.RESTORED]
    assert not left.exists()


@pytest.mark.parametrize("limit", ["BYTES_UNDER_WAY", "PIXELS_UNDER_WAY"])
def test_a_run_that_nobody_goes_on_with_ends_though_photos_wait_for_memory(
    photos: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(pipeline, limit, 1)
    monkeypatch.setattr(Restorer, "pixels_under_way", 1)
    options = BatchOptions((photos,), model="no-such-model", jobs=3)
    going_on = run_pipeline(options, plan(options), restorer=lambda: restorer)
    assert next(going_on).outcome is Kind.RESTORED
    end = threading.Thread(target=going_on.close, daemon=True)
    end.start()
    end.join(60)
    assert not end.is_alive()


@pytest.mark.parametrize("where", ["stage", "record"])
def test_what_concerns_all_photos_ends_the_run_from_whatever_thread_it_comes(
    photos: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def refuse(*_: object) -> None:
        raise FolderUnavailable("the disk is full")

    if where == "record":
        monkeypatch.setattr(PhotoSteps, "record", refuse)
    options = BatchOptions((photos,), model="no-such-model")
    with pytest.raises(FolderUnavailable, match="the disk is full"):
        list(
            run_pipeline(
                options,
                plan(options),
                restorer=lambda: restorer,
                stage=refuse if where == "stage" else lambda task, doing: None,
            )
        )


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("hangs_at", ["reading", "writing"])
def test_a_photo_that_hangs_is_given_up_and_nothing_comes_of_it_later(
    photos: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch, hangs_at: str
) -> None:
    """On a clock that moves only once the others are out of the way."""
    options = BatchOptions((photos,), model="no-such-model", jobs=1, timeout=100)
    now, free, restored, hung = [0.0], threading.Event(), list[Task](), list[threading.Thread]()
    monkeypatch.setattr(pipeline, "Patience", lambda seconds: Patience(seconds, lambda: now[0]))

    def stage(task: Task, doing: str) -> None:
        if doing.startswith("restoring"):
            restored.append(task)
        if doing == hangs_at and task.source.name == "0.jpg":
            hung.append(threading.current_thread())
            while hangs_at == "writing" and len(restored) < 3:
                time.sleep(0.001)
            now[0] = 1000.0
            assert free.wait(60)

    ended: list[tuple[str, str, str, str]] = []
    for outcome in run_pipeline(options, plan(options), restorer=lambda: restorer, stage=stage):
        ended.append((outcome.source.name, outcome.outcome, outcome.reason, outcome.code))
        if outcome.source.name == "0.jpg":
            free.set()
            hung[0].join(60)
            assert not hung[0].is_alive()
    assert sorted(ended)[0] == ("0.jpg", Kind.FAILED, "given up after 100 s", "took-too-long")
    assert [(name, kind) for name, kind, *_ in sorted(ended)[1:]] == [
        ("1.jpg", Kind.RESTORED),
        ("2.jpg", Kind.RESTORED),
    ]
    assert not (photos.with_name("p-restored") / "0.jpg").exists()


def test_a_run_that_nobody_goes_on_with_finishes_what_is_on_the_device_and_leaves_no_threads(
    photos: Path, restorer: Restorer
) -> None:
    (photos / "2.jpg").unlink()
    options = BatchOptions((photos, photos / "gone.jpg"), output=photos.with_name("out"), model="no-such-model", jobs=3)
    on_device, read_on, restore_on = threading.Event(), threading.Event(), threading.Event()
    before = threading.enumerate()

    def stage(task: Task, doing: str) -> None:
        name = task.source.name
        if name == "0.jpg" and doing.startswith("restoring"):
            on_device.set()
            assert restore_on.wait(60)
        if name == "1.jpg" and doing == "judging":
            assert read_on.wait(60)

    outcomes = run_pipeline(options, plan(options), restorer=lambda: restorer, stage=stage)
    assert next(outcomes).source.name == "gone.jpg"
    assert on_device.wait(60)
    threading.Timer(0.1, read_on.set).start()
    threading.Timer(0.3, restore_on.set).start()
    outcomes.close()
    assert [path.name for path in photos.with_name("out").rglob("*.jpg")] == ["0.jpg"]
    assert [thread for thread in threading.enumerate() if not isinstance(thread, threading.Timer)] == before


@pytest.mark.parametrize("limit", ["BYTES_UNDER_WAY", "PIXELS_UNDER_WAY"])
def test_what_concerns_all_photos_ends_the_run_though_others_wait_for_memory(
    photos: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    def refuse(*_: object) -> None:
        raise FolderUnavailable("the disk is full")

    monkeypatch.setattr(PhotoSteps, "record", refuse)
    monkeypatch.setattr(pipeline, limit, 1)
    monkeypatch.setattr(Restorer, "pixels_under_way", 1)
    options = BatchOptions((photos,), model="no-such-model", jobs=3)
    ended: list[str] = []

    def run_all() -> None:
        with pytest.raises(FolderUnavailable):
            list(run_pipeline(options, plan(options), restorer=lambda: restorer))
        ended.append("with the error")

    ending = threading.Thread(target=run_all, daemon=True)
    ending.start()
    ending.join(60)
    assert ended == ["with the error"]


@pytest.mark.slow
def test_a_photo_whose_time_is_up_with_its_last_tile_is_restored_all_the_same(
    tmp_path: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BatchOptions((write(tmp_path / "large.jpg", jpeg(20, image=scene(700, 500))),), model="no", timeout=100)
    real, shift = time.monotonic, [0.0]
    monkeypatch.setattr(pipeline.time, "monotonic", lambda: real() + shift[0])
    told: list[str] = []

    def stage(task: Task, doing: str) -> None:
        told.append(doing)
        if doing.startswith("restoring") and len(set(doing.split()[1].split("/"))) == 1:
            shift[0] = 1000.0

    (outcome,) = run_pipeline(options, plan(options), restorer=lambda: restorer, stage=stage)
    assert told[2] != told[-2]
    assert outcome.outcome is Kind.RESTORED
