"""The nodes over ComfyUI's own HTTP and websocket interface."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codiff_batch.jpeg import JpegPhoto
from tests.hosts.comfyui.client import ROOT, ComfyUI, Ended

PHOTO = "shrine-path-q10.jpg"
GOOD = "strudel-fine-q95.jpg"
TURNED = "oatmeal-q30-turned-gps.jpg"

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
    command = [sys.executable, "-m", "codiff_batch", photo, "-o", out, "--format", "png", "--overwrite", *options]
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
    assert not list(comfyui.base.parent.rglob("escaped*"))


def test_a_folder_of_different_sizes_goes_through_one_by_one(comfyui: ComfyUI) -> None:
    comfyui.upload_into("album/one.jpg", (ROOT / "examples/photos" / PHOTO).read_bytes())
    comfyui.upload_into("album/two.jpg", (ROOT / "examples/photos/macaroni-q35-422.jpg").read_bytes())
    comfyui.upload_into("album/broken.jpg", (ROOT / "examples/photos" / PHOTO).read_bytes()[:2000])
    prompt = saving("")
    prompt["load"] = node("CODiffLoadJPEGFolder", folder="album", subfolders=False, first=0, count=100)
    prompt["failures"] = node("PreviewAny", source=["load", 2])
    ended = comfyui.run(prompt)
    assert ended.event == "execution_success", ended.message
    assert [saved["filename"][:3] for saved in ended.outputs["save"]["images"]] == ["one", "two"]
    assert "broken.jpg" in text_of(ended, "failures")


def test_an_empty_folder_and_one_outside_are_told(comfyui: ComfyUI) -> None:
    (comfyui.base / "input/empty").mkdir(exist_ok=True)
    prompt = saving("")
    prompt["load"] = node("CODiffLoadJPEGFolder", folder="empty", subfolders=False, first=0, count=100)
    assert "no JPEG files there" in comfyui.run(prompt).message
    prompt["load"]["inputs"]["folder"] = "../.."
    status, answer = comfyui.post("/prompt", {"prompt": prompt})
    assert status == 400
    assert "outside the input folder" in str(answer)


def test_a_resized_image_is_refused_in_a_sentence(comfyui: ComfyUI) -> None:
    prompt = restoring(PHOTO)
    size = {"width": 200, "height": 100, "crop": "disabled", "upscale_method": "bilinear"}
    prompt["resized"] = node("ImageScale", image=["load", 0], **size)
    prompt["restore"]["inputs"]["image"] = ["resized", 0]
    ended = comfyui.run(prompt)
    assert ended.event == "execution_error"
    assert "Restore before resizing or cropping" in ended.message


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
    from tests.tiny_model import make_tiny_model

    name = folder.replace("/", "-")
    make_tiny_model(comfyui.base / folder / name)
    offered = comfyui.get("/object_info/CODiffLoadModel")["CODiffLoadModel"]["input"]["required"]["model"]
    assert name in str(offered)
    prompt = restoring(PHOTO)
    prompt["model"]["inputs"]["model"] = name
    ended = comfyui.run(prompt)
    assert f"by {name}" in text_of(ended, "restore")


def test_each_node_and_input_explains_itself(comfyui: ComfyUI) -> None:
    nodes = {name: told for name, told in comfyui.get("/object_info").items() if name.startswith("CODiff")}
    assert len(nodes) == 7
    for name, told in nodes.items():
        assert told["description"], name
        for kind in ("required", "optional"):
            for label, (_, options) in told["input"].get(kind, {}).items():
                assert options["tooltip"], (name, label)
        assert all(told["output_tooltips"]), name


def test_help_pages_languages_and_examples_are_served(comfyui: ComfyUI) -> None:
    words = comfyui.get("/i18n")
    for name, told in comfyui.get("/object_info").items():
        if not name.startswith("CODiff"):
            continue
        help_page = comfyui.get(f"/extensions/codiff/docs/{name}.md").decode()
        inputs = [label for kind in ("required", "optional") for label in told["input"].get(kind, {})]
        assert all(f"`{label}`" in help_page for label in inputs), name
        for language in ("en", "de", "zh"):
            translated = words[language]["nodeDefs"][name]
            assert translated["display_name"]
            assert sorted(translated["inputs"]) == sorted(inputs), (language, name)
            assert len(translated["outputs"]) == len(told["output"]), (language, name)
        english = words["en"]["nodeDefs"][name]
        assert english["description"] == told["description"]
        assert [output["tooltip"] for output in english["outputs"].values()] == told["output_tooltips"]
    examples = comfyui.get("/workflow_templates")["codiff"]
    assert sorted(examples) == ["restore_a_folder", "restore_one_photo", "skip_good_photos"]
    for example in examples:
        assert comfyui.get(f"/api/workflow_templates/codiff/{example}.jpg")[:3] == b"\xff\xd8\xff"


def test_without_the_package_a_node_says_how_to_install_it(comfyui_python: Path, hosts: Path, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / PHOTO).write_bytes((ROOT / "examples/photos" / PHOTO).read_bytes())
    bare = ComfyUI(comfyui_python, hosts / "comfyui/ComfyUI", tmp_path, installed=False)
    try:
        ended = bare.run(restoring(PHOTO))
        assert ended.event == "execution_error"
        assert f'-m pip install "{ROOT}"' in ended.message
    finally:
        bare.stop()
