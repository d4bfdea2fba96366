"""Draws the pack's example workflows and their thumbnails, by the page and the nodes themselves.

Run ``python -m tests.hosts.comfyui.make_examples FOLDER`` after nodes changed, with the folder of :mod:`get_comfyui`.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any

from PIL import Image

from tests.hosts.comfyui.client import ROOT, ComfyUI
from tests.hosts.comfyui.get_comfyui import get_comfyui
from tests.hosts.comfyui.page import open_page, show_graph

EXAMPLES = ROOT / "plugins/comfyui/example_workflows"
NAME = "photo.jpg"
ALBUM = "album"
SOURCE = ROOT / "examples/photos/shrine-path-q10.jpg"
SIDE = 420
"""Of a thumbnail, in pixels: left half before, right half after."""

Example = dict[str, tuple[str, tuple[int, int], tuple[int, int], dict[str, Any]]]
"""Nodes by id: class, place, size, inputs."""

RESTORING = {"strength": 1.0, "constrain": True, "tile": 0, "tiles_at_once": 0, "texture": 1.0}
SAVING = {"filename_prefix": "codiff/%source%", "quality": 95, "include_signed": False}
JUDGED = {"image": ["1", 0], "model": ["2", 0], "jpeg": ["1", 1]}
"""What the photo of node 1 and the model of node 2 feed."""
RESTORE = ("CODiffRestoreJPEG", (420, 0), (320, 220), {**JUDGED, **RESTORING})
MODEL = ("CODiffLoadModel", (0, 470), (320, 60), {"model": "compact"})

ONE_PHOTO: Example = {
    "1": ("CODiffLoadJPEG", (0, 0), (320, 400), {"image": NAME}),
    "2": MODEL,
    "3": RESTORE,
    "4": ("CODiffSaveJPEG", (840, 0), (360, 400), {"image": ["3", 0], "jpeg": ["1", 1], **SAVING}),
    "5": ("PreviewAny", (420, 300), (320, 100), {"source": ["3", 1]}),
}
SKIPPING: Example = {
    "1": ("CODiffLoadJPEG", (0, 0), (320, 400), {"image": NAME}),
    "2": MODEL,
    "3": (
        "CODiffEstimateQuality",
        (420, 0),
        (320, 150),
        JUDGED,
    ),
    "4": (
        "CODiffRestoreJPEG",
        (420, 250),
        (320, 220),
        {**JUDGED, **RESTORING},
    ),
    "5": (
        "CODiffSkipIfGood",
        (840, 0),
        (320, 150),
        {"image": ["1", 0], "quality": ["3", 0], "min_qf": 60.0, "restored": ["4", 0]},
    ),
    "7": ("PreviewAny", (840, 250), (320, 100), {"source": ["3", 1]}),
    "6": ("CODiffSaveJPEG", (1260, 0), (360, 400), {"image": ["5", 0], "jpeg": ["1", 1], **SAVING}),
}
FOLDER: Example = {
    "1": ("CODiffLoadJPEGFolder", (0, 0), (320, 200), {"folder": ALBUM, "subfolders": False, "first": 0, "count": 100}),
    "2": ("CODiffLoadModel", (0, 280), (320, 60), {"model": "compact"}),
    "3": RESTORE,
    "4": ("CODiffSaveJPEG", (840, 0), (360, 400), {"image": ["3", 0], "jpeg": ["1", 1], **SAVING}),
    "5": ("PreviewAny", (420, 300), (320, 100), {"source": ["1", 2]}),
}
WORKFLOWS = {"restore_one_photo": ONE_PHOTO, "skip_good_photos": SKIPPING, "restore_a_folder": FOLDER}


def prompt_of(example: Example) -> dict[str, Any]:
    """What the page would queue."""
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, _, _, inputs) in example.items()}


def main(folder: Path) -> None:
    """Write all workflows and thumbnails into the pack."""
    with tempfile.TemporaryDirectory() as base:
        comfyui = ComfyUI(get_comfyui(folder), folder / "ComfyUI", Path(base))
        try:
            for name in (NAME, f"{ALBUM}/shrine.jpg"):
                comfyui.upload_into(name, SOURCE.read_bytes())
            with open_page(comfyui.address) as page:
                for name, example in WORKFLOWS.items():
                    places = {node: [place, size] for node, (_, place, size, _) in example.items()}
                    workflow = show_graph(page, prompt_of(example), name, places)
                    (EXAMPLES / f"{name}.json").write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")
                    _thumbnail(comfyui, example).save(EXAMPLES / f"{name}.jpg", quality=90)
        finally:
            comfyui.stop()


def _thumbnail(comfyui: ComfyUI, example: Example) -> Image.Image:
    """The middle of the photo, as loaded on the left and as the workflow saved it on the right."""
    outputs = comfyui.run(prompt_of(example)).outputs.values()
    saved = next(told["images"][0] for told in outputs if "images" in told)
    restored = Image.open(io.BytesIO(comfyui.get("/view?" + urllib.parse.urlencode(saved))))
    source = Image.open(SOURCE)
    box = ((source.width - SIDE // 2) // 2, (source.height - SIDE // 2) // 2)
    box = (*box, box[0] + SIDE // 2, box[1] + SIDE // 2)
    sheet = restored.crop(box)
    sheet.paste(source.crop(box).crop((0, 0, SIDE // 4, SIDE // 2)), (0, 0))
    return sheet.resize((SIDE, SIDE), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
