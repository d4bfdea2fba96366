"""The nodes over ComfyUI's own HTTP and websocket interface."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from codiff_batch.jpeg import JpegPhoto, Segment, Structure
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import DEFAULT_MODEL, find
from codiff_batch.settings import FLOATS_HELP, Floats, Judging, Settings, knobs
from tests import warm
from tests.hosts.comfyui.client import ROOT, ComfyUI, Ended
from tests.tiny_model import make_tiny_model

PHOTO = "shrine-path-q10.jpg"
GOOD = "strudel-fine-q95.jpg"
TURNED = "oatmeal-q30-turned-gps.jpg"
RESTORE, GATE = "CODiffRestoreJPEG", "CODiffSkipIfGood"

Prompt = dict[str, dict[str, Any]]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def restoring(photo: str, *, with_file: bool = True, **options: Any) -> Prompt:
    """Load, restore and save a photo."""
    settings = {"strength": 1.0, "constrain": True, "tile": 0, "tiles_at_once": 0, **options}
    file = {"jpeg": ["load", 1]} if with_file else {}
    return {
        "load": node("CODiffLoadJPEG", image=photo),
        "model": node("CODiffLoadModel", model="compact"),
        "restore": node("CODiffRestoreJPEG", image=["load", 0], model=["model", 0], **file, **settings),
        "png": node("SaveImage", images=["restore", 0], filename_prefix="restored"),
    }


def saving(photo: str, **options: Any) -> Prompt:
    """Restore a photo and save it as JPEG."""
    settings = {"filename_prefix": "codiff/%source%", "quality": 95, "include_signed": False, **options}
    return {
        **restoring(photo),
        "save": node("CODiffSaveJPEG", image=["restore", 0], jpeg=["load", 1], **settings),
    }


def album(comfyui: ComfyUI, **photos: str) -> Prompt:
    """Restore and save a folder with these photos; names may have ``__`` for a subfolder."""
    for name, photo in photos.items():
        path = f"album/{name.replace('__', '/')}.jpg"
        comfyui.upload_into(path, (ROOT / "examples/photos" / photo).read_bytes())
    prompt = saving("")
    del prompt["png"]
    prompt["load"] = node("CODiffLoadJPEGFolder", folder="album", subfolders=True, first=0, count=100)
    prompt["model"]["inputs"]["model"] = "fast"
    return prompt


@pytest.fixture(autouse=True)
def no_album(comfyui: ComfyUI) -> Iterator[None]:
    yield
    shutil.rmtree(comfyui.base / "input/album", ignore_errors=True)


def gate(photo: str, min_qf: float = 60.0) -> Prompt:
    """Restore a photo only if it is not good already."""
    return {
        **restoring(photo),
        "judge": node("CODiffEstimateQuality", image=["load", 0], model=["model", 0], jpeg=["load", 1]),
        "skip": node(
            "CODiffSkipIfGood", image=["load", 0], quality=["judge", 0], min_qf=min_qf, restored=["restore", 0]
        ),
        "png": node("SaveImage", images=["skip", 0], filename_prefix="gated"),
    }


def picture(comfyui: ComfyUI, ended: Ended, of: str = "png", index: int = 0) -> np.ndarray:
    assert ended.event == "execution_success", ended.message
    where = ended.outputs[of]["images"][index]
    data = comfyui.get("/view?" + urllib.parse.urlencode(where))
    return np.asarray(Image.open(io.BytesIO(data)))


def text_of(ended: Ended, of: str) -> str:
    return str(ended.outputs[of]["text"][0])


def command_line(photo: Path, out: Path, *options: str) -> np.ndarray:
    """What ``codiff-batch`` makes of a photo."""
    command = [*warm.program(), photo, "-o", out, "--format", "png", "--overwrite", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return np.asarray(Image.open(next(out.glob("*.png"))).convert("RGB"))


@pytest.mark.parametrize("photo", [PHOTO, "macaroni-q35-422.jpg", "lavender-q15-gray.jpg"])
def test_the_result_is_the_command_lines(comfyui: ComfyUI, tmp_path: Path, photo: str) -> None:
    here = picture(comfyui, comfyui.run(restoring(photo)))
    there = command_line(comfyui.base / "input" / photo, tmp_path / "out")
    assert np.array_equal(here, there)


def test_without_the_file_the_pixels_alone_are_restored(comfyui: ComfyUI) -> None:
    ended = comfyui.run(restoring(PHOTO, with_file=False))
    restored = picture(comfyui, ended)
    source = JpegPhoto.open(comfyui.base / "input" / PHOTO).pixels()
    assert restored.shape == source.shape
    assert 0.5 < np.abs(restored.astype(int) - source).mean() < 10
    assert "from the pixels alone" in text_of(ended, "restore")


def test_strength_zero_changes_nothing(comfyui: ComfyUI) -> None:
    restored = picture(comfyui, comfyui.run(restoring(PHOTO, strength=0.0)))
    assert np.array_equal(restored, JpegPhoto.open(comfyui.base / "input" / PHOTO).pixels())


def test_quality_is_told_as_number_and_text(comfyui: ComfyUI) -> None:
    ended = comfyui.run(gate("ravioli-q10-resaved-q95.jpg"))
    assert ended.event == "execution_success"
    words = text_of(ended, "judge").split()
    assert int(words[1]) < 30
    assert words[5] == "95"


def test_a_good_photo_is_never_restored(comfyui: ComfyUI) -> None:
    ended = comfyui.run(gate(GOOD))
    assert np.array_equal(picture(comfyui, ended), JpegPhoto.open(comfyui.base / "input" / GOOD).pixels())
    assert "restore" not in ended.executed
    assert "good already" in text_of(ended, "skip")
    prompt = gate(PHOTO, min_qf=40.0)
    prompt["skip"]["inputs"]["quality"] = 40.0  # as the judge has it, that is good enough
    assert "restore" not in comfyui.run(prompt).executed


def test_a_bad_photo_is_restored_behind_the_gate(comfyui: ComfyUI) -> None:
    ended = comfyui.run(gate(PHOTO, min_qf=59.0))
    assert "restored" in text_of(ended, "skip")
    assert not np.array_equal(picture(comfyui, ended), JpegPhoto.open(comfyui.base / "input" / PHOTO).pixels())


def test_a_saved_jpeg_has_its_sources_metadata(comfyui: ComfyUI) -> None:
    before = (comfyui.base / "input" / TURNED).read_bytes()
    ended = comfyui.run(saving(TURNED))
    assert ended.event == "execution_success", ended.message
    saved = ended.outputs["save"]["images"][0]
    path = comfyui.base / "output" / saved["subfolder"] / saved["filename"]
    assert (saved["subfolder"], path.name.startswith("oatmeal-q30-turned-gps")) == ("codiff", True)
    source, result = JpegPhoto.open(comfyui.base / "input" / TURNED), JpegPhoto.open(path)
    assert result.metadata().orientation == source.metadata().orientation
    assert set(source.metadata().kinds()) <= set(result.metadata().kinds())
    assert result.header.qf == pytest.approx(95, abs=1)
    assert (comfyui.base / "input" / TURNED).read_bytes() == before
    again = comfyui.run(saving(TURNED, quality=90))
    assert again.outputs["save"]["images"][0]["filename"] != saved["filename"]


def test_what_was_estimated_goes_into_the_comment(comfyui: ComfyUI) -> None:
    prompt = {**gate(PHOTO), **saving(PHOTO)}
    prompt["save"]["inputs"]["jpeg"] = ["judge", 2]
    ended = comfyui.run(prompt)
    saved = ended.outputs["save"]["images"][0]
    with Image.open(comfyui.base / "output" / saved["subfolder"] / saved["filename"]) as image:
        assert re.search(rb"\(ComfyUI\) qf=\d", image.info["comment"])


def test_an_unchanged_image_is_saved_as_the_very_bytes_of_its_source(comfyui: ComfyUI) -> None:
    prompt = saving(GOOD)
    prompt["save"]["inputs"]["image"] = ["load", 0]
    path = Path(comfyui.run(prompt).outputs["save"]["images"][0]["filename"])
    assert (comfyui.base / "output/codiff" / path).read_bytes() == (comfyui.base / "input" / GOOD).read_bytes()


def test_a_name_outside_the_output_folder_is_refused(comfyui: ComfyUI) -> None:
    ended = comfyui.run(saving(PHOTO, filename_prefix="../../escaped"))
    assert ended.event == "execution_error"
    assert not [*comfyui.base.rglob("escaped*"), *comfyui.base.parent.glob("escaped*")]


def test_a_folder_of_different_sizes_goes_through_one_by_one_and_keeps_its_subfolders(comfyui: ComfyUI) -> None:
    prompt = album(comfyui, one=PHOTO, inner__two="macaroni-q35-422.jpg", broken=PHOTO)
    broken = comfyui.base / "input/album/broken.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])
    prompt["failures"] = node("PreviewAny", source=["load", 2])
    ended = comfyui.run(prompt)
    assert ended.event == "execution_success", ended.message
    saved = [(image["subfolder"], image["filename"][:3]) for image in ended.outputs["save"]["images"]]
    assert saved == [("codiff/inner", "two"), ("codiff", "one")]
    assert "broken.jpg" in text_of(ended, "failures")


def test_of_one_bad_and_three_good_photos_one_is_restored(comfyui: ComfyUI) -> None:
    prompt = album(comfyui, a=GOOD, b=GOOD, c=PHOTO, d=GOOD)
    prompt["restore"]["inputs"]["min_qf"] = 60.0
    ended = comfyui.run(prompt)
    reports = ended.outputs["restore"]["text"]
    assert ["restored" in report for report in reports] == [False, False, True, False]
    assert ["good already" in report for report in reports] == [True, True, False, True]
    tiles = {total for value, total in ended.progress if total > 1}
    assert tiles == {4}  # one tile of one photo among four: the network was asked once
    sources = [(ROOT / "examples/photos" / photo).read_bytes() for photo in (GOOD, GOOD, PHOTO, GOOD)]
    for saved, source, is_good in zip(ended.outputs["save"]["images"], sources, (True, True, False, True), strict=True):
        data = (comfyui.base / "output" / saved["subfolder"] / saved["filename"]).read_bytes()
        assert (data == source) == is_good


def test_each_image_of_a_batch_is_judged_by_itself(comfyui: ComfyUI) -> None:
    prompt = restoring(PHOTO, with_file=False, min_qf=60.0)
    prompt["good"] = node("CODiffLoadJPEG", image=GOOD)
    prompt["both"] = node("ImageBatch", image1=["load", 0], image2=["good", 0])
    prompt["restore"]["inputs"]["image"] = ["both", 0]
    ended = comfyui.run(prompt)
    first, second = text_of(ended, "restore").split("; ")
    assert "restored" in first
    assert "good already" in second
    assert not np.array_equal(picture(comfyui, ended), JpegPhoto.open(comfyui.base / "input" / PHOTO).pixels())


def test_a_folder_takes_the_memory_of_a_few_photos(comfyui: ComfyUI) -> None:
    """Twelve photos of 3 megapixels are 430 MB of floats as sources, and again as results."""
    make_tiny_model(comfyui.base / "models/codiff/tiny")
    large = io.BytesIO()
    Image.open(ROOT / "examples/photos" / PHOTO).resize((2000, 1500)).save(large, "JPEG", quality=30)
    prompt = album(comfyui)
    for index in range(12):
        comfyui.upload_into(f"album/{index:02}.jpg", large.getvalue())
    del prompt["save"]
    prompt["report"] = node("PreviewAny", source=["restore", 1])
    prompt["load"]["inputs"]["count"] = 1
    prompt["model"]["inputs"]["model"] = "tiny"
    prompt["restore"]["inputs"].update(tile=2048, constrain=False)
    assert comfyui.run(prompt).event == "execution_success"
    before = comfyui.peak_memory()
    prompt["load"]["inputs"]["count"] = 12
    ended = comfyui.run(prompt)
    assert ended.event == "execution_success", ended.message
    assert len(ended.outputs["restore"]["text"]) == 12
    assert comfyui.peak_memory() - before < 350e6
    waiting = comfyui.base / "temp"
    assert len(list(waiting.glob("codiff-*.npy"))) == 12
    prompt["load"]["inputs"]["count"] = 11

    def interrupt(value: int, total: int) -> None:
        if (value, total) == (2, 11):
            comfyui.post("/interrupt", {})

    ended = comfyui.run(prompt, on_progress=interrupt)
    assert ended.event == "execution_interrupted"
    assert ended.executed == ["load"]  # not even all of its headers were read
    assert ended.progress[-1][0] < 11
    assert comfyui.run(restoring(GOOD, strength=0.0)).event == "execution_success"
    assert not list(waiting.glob("codiff-*.npy"))  # what nobody has any more is gone


def test_progress_counts_over_the_list_and_an_interruption_ends_it(comfyui: ComfyUI) -> None:
    prompt = album(comfyui, a=PHOTO, b=PHOTO, c=PHOTO)
    prompt["restore"]["inputs"].update(tile=128, tiles_at_once=1)

    def interrupt(value: int, total: int) -> None:
        if total > 3 and value > total / 3 + 2:  # in the second photo
            comfyui.post("/interrupt", {})

    ended = comfyui.run(prompt, on_progress=interrupt)
    assert ended.event == "execution_interrupted"
    values, total = [value for value, total in ended.progress if total > 3], ended.progress[-1][1]
    assert values == sorted(values)
    assert total / 3 < values[-1] < total * 2 / 3


def test_an_interruption_does_not_wait_for_the_tile_that_is_at_work(comfyui: ComfyUI) -> None:
    """The whole photo is one tile."""
    prompt = restoring(PHOTO, strength=0.6)
    began: list[float] = []

    def note(name: str) -> None:
        if name == "restore":
            began.append(time.monotonic())

    comfyui.run(prompt, on_node=note)
    whole = time.monotonic() - began[0]

    def interrupt(name: str) -> None:
        note(name)
        if name == "restore":
            comfyui.post("/interrupt", {})

    prompt["restore"]["inputs"]["strength"] = 0.5
    ended = comfyui.run(prompt, on_node=interrupt)
    assert ended.event == "execution_interrupted"
    assert time.monotonic() - began[1] < whole / 2


@pytest.fixture
def secret(comfyui: ComfyUI, tmp_path: Path) -> Path:
    """A photo that is nobody's business."""
    path = tmp_path / "private/diary.jpg"
    path.parent.mkdir()
    path.write_bytes((ROOT / "examples/photos" / PHOTO).read_bytes())
    return path


def test_only_what_lies_in_the_input_folder_is_loaded(comfyui: ComfyUI, secret: Path) -> None:
    inside = comfyui.base / "input"
    (inside / "out.jpg").symlink_to(secret)
    (inside / "pipe.jpg").unlink(missing_ok=True)
    os.mkfifo(inside / "pipe.jpg")
    (comfyui.base / "output/made.jpg").write_bytes(secret.read_bytes())
    climbing = os.path.relpath(secret, inside)
    outside = [
        str(secret),
        climbing,
        "album/../" + climbing,
        f"codiff-examples/../{PHOTO}",
        "made.jpg [output]",
        "/dev/zero",
        "/etc/nothing",
        "out.jpg",
    ]
    words = dict.fromkeys(outside, "is outside the input folder")
    words |= {"pipe.jpg": "There is no file", "nothing.jpg": "There is no file", 300 * "n": "There is no file"}
    try:
        for name, expected in words.items():
            status, answer = comfyui.post("/prompt", {"prompt": restoring(name)})
            assert status == 400, name
            assert expected in str(answer["node_errors"]["load"]), name
        for name in (str(secret.parent), os.path.relpath(secret.parent, inside), "codiff-examples/..", "/"):
            folder = node("CODiffLoadJPEGFolder", folder=name, subfolders=True, first=0, count=9)
            status, answer = comfyui.post("/prompt", {"prompt": {**restoring(PHOTO), "load": folder}})
            assert status == 400, name
            assert "is outside the input folder" in str(answer["node_errors"]["load"]), name
        offered = comfyui.get("/object_info/CODiffLoadJPEG")["CODiffLoadJPEG"]["input"]["required"]["image"]
        assert PHOTO in str(offered)
        assert "pipe.jpg" not in str(offered)
        assert "out.jpg" not in str(offered)
    finally:
        (inside / "out.jpg").unlink()
        (inside / "pipe.jpg").unlink()


def test_a_folder_that_the_owner_linked_in_is_read_but_not_the_links_in_it(
    comfyui: ComfyUI, secret: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "mine.jpg").write_bytes(secret.read_bytes())
    (photos / "theirs.jpg").symlink_to(secret)
    (photos / "private").symlink_to(secret.parent)
    (comfyui.base / "input/linked").symlink_to(photos)
    try:
        assert comfyui.run(restoring("linked/mine.jpg", strength=0.0)).event == "execution_success"
        for name in ("linked/theirs.jpg", "linked/private/diary.jpg"):
            assert comfyui.post("/prompt", {"prompt": restoring(name)})[0] == 400
        prompt = saving("")
        prompt["restore"]["inputs"]["strength"] = 0.0
        prompt["load"] = node("CODiffLoadJPEGFolder", folder="linked", subfolders=True, first=0, count=9)
        ended = comfyui.run(prompt)
        assert [image["filename"][:4] for image in ended.outputs["save"]["images"]] == ["mine"]
    finally:
        (comfyui.base / "input/linked").unlink()


def test_a_photo_that_is_changed_between_loading_and_saving_is_told(comfyui: ComfyUI) -> None:
    prompt = album(comfyui, a=PHOTO)
    path = comfyui.base / "input/album/a.jpg"

    def change(*_: int) -> None:
        path.write_bytes((ROOT / "examples/photos" / GOOD).read_bytes())

    ended = comfyui.run(prompt, on_progress=change)
    assert ended.event == "execution_error"
    assert "was changed since it was loaded" in ended.message


@pytest.mark.parametrize("prefix", ["../../evil", "/tmp/evil", "a/../../evil", "n" * 300])
def test_a_prefix_that_is_no_name_in_the_output_folder_is_refused(comfyui: ComfyUI, prefix: str) -> None:
    prompt = saving(GOOD, filename_prefix=prefix)
    prompt["restore"]["inputs"]["strength"] = 0.0
    ended = comfyui.run(prompt)
    assert ended.event == "execution_error"
    assert not list(comfyui.base.parent.glob("evil*"))


def float_images(comfyui: ComfyUI, values: np.ndarray) -> Prompt:
    """Nodes that load floats (1, H, W, C) as they are, restore them, and keep what comes out."""
    tests = comfyui.base / "output"
    np.save(tests / "in.npy", values)
    prompt = restoring(PHOTO, with_file=False)
    del prompt["load"], prompt["png"]
    prompt["floats"] = node("TestFloats", file=str(tests / "in.npy"))
    prompt["restore"]["inputs"]["image"] = ["floats", 0]
    prompt["keep"] = node("TestKeep", image=["restore", 0], file=str(tests / "out.npy"))
    return prompt


@pytest.mark.parametrize("channels", [3, 4])
def test_alpha_and_what_is_finer_or_brighter_than_8_bits_is_kept(comfyui: ComfyUI, channels: int) -> None:
    rng = np.random.default_rng(0)
    photo = JpegPhoto.open(ROOT / "examples/photos" / PHOTO).pixels()[:96, :96] / np.float32(255)
    values = np.dstack([photo * 1.1 + rng.normal(0, 0.0005, photo.shape), rng.random(photo.shape[:2])])
    values = values[None, ..., :channels].astype(np.float32)
    prompt = float_images(comfyui, values)
    prompt["restore"]["inputs"]["strength"] = 0.0
    assert comfyui.run(prompt).event == "execution_success"
    assert np.array_equal(np.load(comfyui.base / "output/out.npy"), values)
    prompt["restore"]["inputs"] |= {"strength": 1.0, "min_qf": 1.0}
    assert "left alone" in text_of(comfyui.run(prompt), "restore")
    assert np.array_equal(np.load(comfyui.base / "output/out.npy"), values)
    prompt["restore"]["inputs"]["min_qf"] = 0.0
    ended = comfyui.run(prompt)
    assert ended.event == "execution_success", ended.message
    restored = np.load(comfyui.base / "output/out.npy")
    assert restored.shape == values.shape
    assert np.array_equal(restored[..., 3:], values[..., 3:])
    change = (restored - values)[..., :3] * 255
    assert np.abs(change).mean() > 0.5
    assert np.abs(change - np.rint(change)).max() < 0.01  # whole levels were added to values between them
    assert restored.max() > 1


def test_an_image_with_transparency_is_not_saved_as_jpeg(comfyui: ComfyUI) -> None:
    prompt = saving(PHOTO)
    prompt["mask"] = node("SolidMask", value=0.5, width=512, height=512)
    prompt["alpha"] = node("JoinImageWithAlpha", image=["load", 0], alpha=["mask", 0])
    prompt["save"]["inputs"]["image"] = ["alpha", 0]
    assert "no transparency" in comfyui.run(prompt).message


def test_before_and_after_are_shown_in_one_picture(comfyui: ComfyUI) -> None:
    prompt = restoring(PHOTO)
    where = {"split": 0.5, "side": 100, "x": 0.5, "y": 0.5, "zoom": 2}
    prompt["both"] = node("CODiffBeforeAfter", before=["restore", 2], after=["restore", 0], **where)
    ended = comfyui.run(prompt)
    shown, after = picture(comfyui, ended, "both"), picture(comfyui, ended)
    before = JpegPhoto.open(comfyui.base / "input" / PHOTO).pixels()
    middle = (slice(206, 306), slice(206, 306))
    assert shown.shape == (200, 200, 3)
    assert np.array_equal(shown[::2, :98:2], before[middle][:, :49])
    assert np.array_equal(shown[::2, 102::2], after[middle][:, 51:])
    assert (shown[:, 99:101] == 255).all()


def test_the_workflow_goes_into_the_file_only_where_it_is_asked_for(comfyui: ComfyUI) -> None:
    files = []
    for embed in (False, True):
        ended = comfyui.run(saving(TURNED, embed_workflow=embed))
        saved = ended.outputs["save"]["images"][0]
        files.append(comfyui.base / "output" / saved["subfolder"] / saved["filename"])
    without, with_workflow = (file.read_bytes() for file in files)
    assert b"CODiffSaveJPEG" not in without
    assert b'prompt:{"' in with_workflow
    assert len(with_workflow) < len(without) + 5000
    assert np.array_equal(JpegPhoto.open(files[0]).pixels(), JpegPhoto.open(files[1]).pixels())
    assert set(JpegPhoto.open(files[0]).metadata().kinds()) <= set(JpegPhoto.open(files[1]).metadata().kinds())


def test_a_workflow_is_not_written_into_a_signed_photo(comfyui: ComfyUI) -> None:
    soi, *rest = JpegPhoto.open(ROOT / "examples/photos" / PHOTO).structure.segments
    manifest = Segment(0xEB, b"JP\0\1\0\0\0\1\0\0\0\xc8jumb" + b"jumd c2pa manifest")
    (comfyui.base / "input/signed.jpg").write_bytes(Structure((soi, manifest, *rest), b"").emit())
    prompt = saving("signed.jpg", embed_workflow=True)
    prompt["save"]["inputs"]["image"] = ["load", 0]
    assert "signed" in comfyui.run(prompt).message
    prompt["save"]["inputs"]["include_signed"] = True
    saved = comfyui.run(prompt).outputs["save"]["images"][0]
    output = JpegPhoto.open(comfyui.base / "output" / saved["subfolder"] / saved["filename"])
    assert not output.metadata().c2pa
    assert b'prompt:{"' in output.data


@pytest.mark.parametrize("folder", ["linked album", ["name", 0]], ids=["one", "two"])
def test_inputs_may_come_from_other_nodes_and_a_changed_folder_is_read_again(
    comfyui: ComfyUI, folder: str | list[Any]
) -> None:
    album = comfyui.base / "input" / "linked album"
    shutil.rmtree(album, ignore_errors=True)
    (album / "more").mkdir(parents=True)
    shutil.copy(comfyui.base / "input" / PHOTO, album / "more" / "a.jpg")
    prompt = {
        "name": node("PrimitiveString", value="linked album"),
        "deep": node("PrimitiveBoolean", value=True),
        "load": node("CODiffLoadJPEGFolder", folder=folder, subfolders=["deep", 0], first=0, count=10),
        "save": {**saving("")["save"], "inputs": {**saving("")["save"]["inputs"], "image": ["load", 0]}},
    }
    assert len(comfyui.run(prompt).outputs["save"]["images"]) == 1
    shutil.copy(comfyui.base / "input" / TURNED, album / "more" / "b.jpg")
    assert len(comfyui.run(prompt).outputs["save"]["images"]) == 2


def test_a_resized_image_is_refused_in_a_sentence(comfyui: ComfyUI) -> None:
    prompt = restoring(PHOTO)
    size = {"width": 200, "height": 100, "crop": "disabled", "upscale_method": "bilinear"}
    prompt["resized"] = node("ImageScale", image=["load", 0], **size)
    prompt["restore"]["inputs"]["image"] = ["resized", 0]
    ended = comfyui.run(prompt)
    assert ended.event == "execution_error"
    assert "Restore before resizing or cropping" in ended.message


def test_only_what_came_by_a_loader_is_saved(comfyui: ComfyUI, secret: Path) -> None:
    """Neither another picture's metadata nor the bytes of a file that a prompt names."""
    prompt = saving(GOOD)
    prompt["other"] = node("CODiffLoadJPEG", image="macaroni-q35-422.jpg")
    size = {"width": 200, "height": 100, "crop": "disabled", "upscale_method": "bilinear"}
    prompt["resized"] = node("ImageScale", image=["other", 0], **size)
    prompt["save"]["inputs"]["image"] = ["resized", 0]
    del prompt["png"], prompt["restore"], prompt["model"]
    assert "Restore before resizing or cropping" in comfyui.run(prompt).message
    prompt["save"]["inputs"]["image"] = ["load", 0]
    before = set((comfyui.base / "output").rglob("*.jpg"))
    for forged in (str(secret), {"path": str(secret), "name": "diary"}, None):
        prompt["save"]["inputs"]["jpeg"] = forged
        assert "takes a file from 'Load JPEG (CODiff)'" in comfyui.run(prompt).message
    assert set((comfyui.base / "output").rglob("*.jpg")) == before


def test_files_beyond_the_limits_end_in_a_sentence(comfyui: ComfyUI) -> None:
    data = bytearray((ROOT / "examples/photos" / PHOTO).read_bytes())
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = b"\xff\xdc" * 2
    comfyui.upload_into("giant.jpg", bytes(data))
    comfyui.upload_into("heavy.jpg", b"")
    heavy = comfyui.base / "input/heavy.jpg"
    os.truncate(heavy, 2**40)  # bytes that nobody wrote take no room
    try:
        for name, words in (("giant.jpg", "65500x65500 pixels"), ("heavy.jpg", "over the limit of 256 MB")):
            ended = comfyui.run(restoring(name))
            assert ended.event == "execution_error"
            assert words in ended.message
            assert name in ended.message
    finally:
        heavy.unlink()


def test_a_batch_with_one_file_is_refused_and_without_it_is_restored(comfyui: ComfyUI) -> None:
    prompt = restoring(PHOTO)
    prompt["twice"] = node("ImageBatch", image1=["load", 0], image2=["load", 0])
    prompt["restore"]["inputs"]["image"] = ["twice", 0]
    assert "holds 2 images" in comfyui.run(prompt).message
    del prompt["restore"]["inputs"]["jpeg"]
    ended = comfyui.run(prompt)
    assert np.array_equal(picture(comfyui, ended, index=0), picture(comfyui, ended, index=1))


@pytest.mark.parametrize(
    ("what", "value"),
    [("strength", 7), ("strength", "much"), ("texture", 2), ("tile", -1), ("tiles_at_once", 1000)],
)
def test_bad_values_are_refused_before_anything_runs(comfyui: ComfyUI, what: str, value: object) -> None:
    status, answer = comfyui.post("/prompt", {"prompt": restoring(PHOTO, **{what: value})})
    assert status == 400
    assert what in str(answer["node_errors"]["restore"])


def test_a_photo_that_is_not_there_and_a_model_that_is_not_there(comfyui: ComfyUI) -> None:
    assert comfyui.post("/prompt", {"prompt": restoring("gone.jpg")})[0] == 400
    prompt = restoring(PHOTO)
    prompt["model"]["inputs"]["model"] = "gone"
    assert comfyui.post("/prompt", {"prompt": prompt})[0] == 400


@pytest.mark.parametrize(
    ("name", "cut", "words"),
    [("truncated.jpg", 3000, "truncated"), ("empty.jpg", 0, "empty"), ("text.jpg", None, "not a JPEG")],
)
def test_a_damaged_jpeg_ends_in_a_sentence(comfyui: ComfyUI, name: str, cut: int | None, words: str) -> None:
    data = (ROOT / "examples/photos" / PHOTO).read_bytes()
    comfyui.upload_into(name, b"just words" if cut is None else data[:cut])
    ended = comfyui.run(restoring(name))
    assert ended.event == "execution_error"
    assert words in ended.message
    assert name in ended.message


def test_an_upload_keeps_its_bytes_and_is_restored(comfyui: ComfyUI) -> None:
    data = (ROOT / "examples/photos" / PHOTO).read_bytes()
    name = comfyui.upload("holiday photo.jpg", data)
    assert comfyui.run(restoring(name)).event == "execution_success"
    assert (comfyui.base / "input" / name).read_bytes() == data


def test_tiles_are_shown_as_progress_and_an_interruption_ends_between_them(comfyui: ComfyUI) -> None:
    whole = comfyui.run(restoring(PHOTO, tile=128, tiles_at_once=1, strength=0.9))
    done = [value for value, _ in whole.progress]
    total = whole.progress[-1][1]
    assert done == sorted(done)
    assert done[-1] == total > 8

    def interrupt(value: int, _: int) -> None:
        if value >= 2:  # a newer ComfyUI does not send every step
            comfyui.post("/interrupt", {})

    stopped = comfyui.run(restoring(PHOTO, tile=128, tiles_at_once=1, strength=0.8), on_progress=interrupt)
    assert stopped.event == "execution_interrupted"
    assert stopped.progress[-1][0] < total
    assert comfyui.run(restoring(PHOTO, tile=128, strength=0.7)).event == "execution_success"


@pytest.mark.parametrize("folder", ["models/codiff", "elsewhere/models"])
def test_models_of_comfyuis_model_folders_are_offered(comfyui: ComfyUI, folder: str) -> None:
    name = folder.replace("/", "-")
    make_tiny_model(comfyui.base / folder / name)
    offered = comfyui.get("/object_info/CODiffLoadModel")["CODiffLoadModel"]["input"]["required"]["model"]
    assert name in str(offered)
    prompt = restoring(PHOTO)
    prompt["model"]["inputs"]["model"] = name
    ended = comfyui.run(prompt)
    assert f"by {name}" in text_of(ended, "restore")


def test_a_quality_by_hand_is_the_command_lines_and_lifts_the_gate(comfyui: ComfyUI, tmp_path: Path) -> None:
    prompt = restoring(GOOD, qf=30.0, min_qf=60.0)
    prompt["model"]["inputs"]["model"] = "fast"
    ended = comfyui.run(prompt)
    there = command_line(comfyui.base / "input" / GOOD, tmp_path / "out", "--model", "fast", "--qf", "30")
    assert np.array_equal(picture(comfyui, ended), there)
    assert "restored" in text_of(ended, "restore")
    prompt["restore"]["inputs"]["qf"] = 0.5
    assert "a number from 1 to 100" in comfyui.run(prompt).message


def test_the_precision_is_the_command_lines(comfyui: ComfyUI, tmp_path: Path) -> None:
    pictures = []
    for floats in ("fp32", "bf16"):
        prompt = restoring(PHOTO)
        prompt["model"]["inputs"] |= {"model": "fast", "precision": floats}
        pictures.append(picture(comfyui, comfyui.run(prompt)))
        options = ("--model", "fast", "--precision", floats)
        there = command_line(comfyui.base / "input" / PHOTO, tmp_path / floats, *options)
        assert np.array_equal(pictures[-1], there)
    assert not np.array_equal(*pictures)


def test_each_node_and_input_explains_itself(comfyui: ComfyUI) -> None:
    nodes = {name: told for name, told in comfyui.get("/object_info").items() if name.startswith("CODiff")}
    assert len(nodes) == 8
    for name, told in nodes.items():
        assert told["description"], name
        for kind in ("required", "optional"):
            for label, (_, options) in told["input"].get(kind, {}).items():
                assert options["tooltip"], (name, label)
        assert all(told["output_tooltips"]), name


def test_inputs_are_the_engines_settings(comfyui: ComfyUI) -> None:
    """Each default, limit, notch and sentence is that of ``settings.py``; a number that may be off begins with 0."""
    nodes = {kind: comfyui.get(f"/object_info/{kind}")[kind]["input"] for kind in (RESTORE, GATE)}
    inputs = {
        name: told for kind in ("required", "optional") for name, (_, told) in nodes[RESTORE].get(kind, {}).items()
    }
    of_the_gate = nodes[GATE]["required"]["min_qf"][1]
    settings = knobs(Settings) | knobs(Judging)
    assert set(settings) <= set(inputs)
    for name, knob in settings.items():
        assert inputs[name]["tooltip"].startswith(knob.help)
    numbers = {name: knob for name, knob in settings.items() if not knob.is_switch}
    texture = read_card(find(DEFAULT_MODEL)).texture
    firsts = {"strength": settings["strength"].default, "texture": texture, "min_qf": 0, "qf": 0}
    assert {name: inputs[name]["default"] for name in numbers} == firsts
    lows = {name: 0 if firsts[name] == 0 else knob.low for name, knob in numbers.items()}
    for name, knob in numbers.items():
        assert (inputs[name]["min"], inputs[name]["max"], inputs[name]["step"]) == (lows[name], knob.high, knob.step)
    assert inputs["constrain"]["default"] == settings["constrain"].default
    judging = settings["min_qf"]
    assert (of_the_gate["default"], of_the_gate["min"], of_the_gate["max"]) == (60, judging.low, judging.high)
    floats = comfyui.get("/object_info/CODiffLoadModel")["CODiffLoadModel"]["input"]["optional"]["precision"]
    assert str(get_args(Floats)[0]) == floats[1]["default"]
    assert all(name in str(floats) for name in get_args(Floats))
    assert floats[1]["tooltip"] == FLOATS_HELP


def test_help_pages_languages_and_examples_are_served(comfyui: ComfyUI) -> None:
    words = comfyui.get("/i18n")
    for name, told in comfyui.get("/object_info").items():
        if not name.startswith("CODiff"):
            continue
        help_page = comfyui.get(f"/extensions/codiff/docs/{name}.md").decode()
        inputs = [label for kind in ("required", "optional") for label in told["input"].get(kind, {})]
        assert all(f"`{label}`" in help_page for label in inputs), name
        translated = words["zh"]["nodeDefs"][name]
        assert translated["display_name"]
        assert sorted(translated["inputs"]) == sorted(inputs), name
        assert len(translated["outputs"]) == len(told["output"]), name
    examples = comfyui.get("/workflow_templates")["codiff"]
    assert sorted(examples) == ["Judge one photo and skip it if it is good", "Restore a folder", "Restore one photo"]
    thumbnails = set()
    for example in examples:
        thumbnails.add(comfyui.get(f"/api/workflow_templates/codiff/{urllib.parse.quote(example)}.jpg"))
    assert len(thumbnails) == 3
    assert all(thumbnail[:3] == b"\xff\xd8\xff" for thumbnail in thumbnails)


def test_the_documented_prompt_runs_from_curl_and_from_python(comfyui: ComfyUI, tmp_path: Path) -> None:
    page = (ROOT / "docs/comfyui.md").read_text().partition("## From programs")[2]
    blocks = [block.replace("http://127.0.0.1:8188", comfyui.address) for block in page.split("```")[1::2]]
    graph, curl, program = (block.partition("\n")[2] for block in blocks)
    (tmp_path / "prompt.json").write_text(graph)
    (tmp_path / "photo.jpg").write_bytes((ROOT / "examples/photos" / TURNED).read_bytes())
    told = subprocess.run(curl, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["prompt_id"]
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    source, restored = JpegPhoto.open(tmp_path / "photo.jpg"), JpegPhoto.open(tmp_path / "restored.jpg")
    assert set(source.metadata().kinds()) <= set(restored.metadata().kinds())
    assert not np.array_equal(source.pixels(), restored.pixels())
    saved = [path.name for path in (comfyui.base / "output/codiff").glob("codiff-example_*")]
    assert saved  # what curl asked for


@pytest.mark.parametrize("copied", [False, True], ids=["linked", "copied"])
def test_without_the_package_a_node_says_how_to_install_it(
    comfyui_python: Path, hosts: Path, tmp_path: Path, copied: bool
) -> None:
    """The code that the node runs, in ComfyUI's Python without the package and without the server."""
    pack = ROOT / "plugins/comfyui"
    if copied:
        pack = Path(
            shutil.copytree(pack, tmp_path / "custom_nodes/codiff", ignore=shutil.ignore_patterns("__pycache__"))
        )
    script = f"""
import sys
sys.path[:0] = [{str(hosts / "comfyui/ComfyUI")!r}, {str(pack.parent)!r}]
sys.argv = ["main.py", "--cpu", "--base-directory", {str(tmp_path)!r}]
import torch
library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import comfy.options
comfy.options.enable_args_parsing()
import importlib
pack = importlib.import_module({pack.name!r} + ".nodes")
print(*(node.GET_SCHEMA().node_id for node in pack.NODES))
pack.bridge.engine()
"""
    (tmp_path / "input").mkdir()
    told = subprocess.run([comfyui_python, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert told.returncode != 0
    assert len(told.stdout.split()) == 8  # all nodes can be placed
    where = "PATH-OF-THE-CLONE (the folder with plugins/comfyui in it" if copied else f'"{ROOT}"'
    assert f'"{comfyui_python}" -m pip install {where}' in told.stderr
