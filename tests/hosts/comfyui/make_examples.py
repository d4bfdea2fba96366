"""Draws the pack's example workflows, their thumbnails, icon and banner, and the documentation's pictures of the page.

Run ``python -m tests.hosts.comfyui.make_examples FOLDER`` after nodes changed, with the folder of :mod:`get_comfyui`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import FloatRect, Page

from codiff_batch import Restorer, restore_photo
from codiff_batch.jpeg import JpegPhoto
from tests.hosts.comfyui.client import ROOT, ComfyUI
from tests.hosts.comfyui.get_comfyui import get_comfyui
from tests.hosts.comfyui.page import open_page, show_graph

PACK = ROOT / "plugins/comfyui"
EXAMPLES = PACK / "example_workflows"
PHOTOS = PACK / "example_photos"
NAME = "codiff-example.jpg"
FOLDER_NAME = "codiff-examples"
PICTURES = ROOT / "docs/images"
GRAPH: FloatRect = {"x": 0, "y": 0, "width": 1480, "height": 640}
HELP: FloatRect = {"x": 0, "y": 0, "width": 1400, "height": 720}
SIDE = 420
"""Of a thumbnail, in pixels."""

Example = dict[str, tuple[str, tuple[int, int], tuple[int, int], dict[str, Any]]]
"""Nodes by id: class, place, size, inputs."""

RESTORING = {
    "strength": 1.0,
    "constrain": True,
    "tile": 0,
    "tiles_at_once": 0,
    "texture": 0.7,
    "min_qf": 0.0,
    "qf": 0.0,
}
SAVING = {"filename_prefix": "codiff/%source%", "quality": 95, "include_signed": False, "embed_workflow": False}
JUDGED = {"image": ["1", 0], "model": ["2", 0], "jpeg": ["1", 1]}
"""What the photo of node 1 and the model of node 2 feed."""
RESTORE = ("CODiffRestoreJPEG", (420, 0), (320, 240), {**JUDGED, **RESTORING})
MODEL = ("CODiffLoadModel", (0, 470), (320, 60), {"model": "compact"})
COMPARED = {"split": 0.5, "side": 256, "x": 0.5, "y": 0.5, "zoom": 2}

ONE_PHOTO: Example = {
    "1": ("CODiffLoadJPEG", (0, 0), (320, 400), {"image": NAME}),
    "2": MODEL,
    "3": RESTORE,
    "4": ("CODiffSaveJPEG", (840, 0), (360, 400), {"image": ["3", 0], "jpeg": ["1", 1], **SAVING}),
    "5": ("CODiffBeforeAfter", (1280, 0), (360, 460), {"before": ["3", 2], "after": ["3", 0], **COMPARED}),
}
SKIPPING: Example = {
    "1": ("CODiffLoadJPEG", (0, 0), (320, 400), {"image": NAME}),
    "2": MODEL,
    "3": ("CODiffEstimateQuality", (420, 0), (320, 150), JUDGED),
    "4": ("CODiffRestoreJPEG", (420, 250), (320, 240), {**JUDGED, **RESTORING}),
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
    "1": (
        "CODiffLoadJPEGFolder",
        (0, 0),
        (320, 200),
        {"folder": FOLDER_NAME, "subfolders": True, "first": 0, "count": 100},
    ),
    "2": ("CODiffLoadModel", (0, 280), (320, 60), {"model": "compact"}),
    "3": ("CODiffRestoreJPEG", (420, 0), (320, 240), {**JUDGED, **RESTORING, "min_qf": 60.0}),
    "4": ("CODiffSaveJPEG", (840, 0), (360, 400), {"image": ["3", 0], "jpeg": ["1", 1], **SAVING}),
    "5": ("PreviewAny", (420, 320), (320, 140), {"source": ["3", 1]}),
}
WORKFLOWS = {
    "Restore one photo": ONE_PHOTO,
    "Judge one photo and skip it if it is good": SKIPPING,
    "Restore a folder": FOLDER,
}


def prompt_of(example: Example) -> dict[str, Any]:
    """What the page would queue."""
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, _, _, inputs) in example.items()}


def main(folder: Path) -> None:
    """Write all workflows and pictures into the pack."""
    with tempfile.TemporaryDirectory() as base:
        comfyui = ComfyUI(get_comfyui(folder), folder / "ComfyUI", Path(base))
        try:
            with open_page(comfyui.address) as page:
                for name, example in WORKFLOWS.items():
                    places = {node: [place, size] for node, (_, place, size, _) in example.items()}
                    workflow = show_graph(page, prompt_of(example), name, places)
                    (EXAMPLES / f"{name}.json").write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")
                    if example is SKIPPING:
                        take_picture_of_graph(page)
            with open_page(comfyui.address) as page:
                places = {node: [place, size] for node, (_, place, size, _) in ONE_PHOTO.items()}
                show_graph(page, prompt_of(ONE_PHOTO), "Restore one photo", places)
                take_picture_of_help(page)
        finally:
            comfyui.stop()
    draw_pictures()


def take_picture_of_graph(page: Page) -> None:
    """For the documentation: the graph on the canvas, after it ran."""
    page.evaluate("() => { app.canvas.ds.offset = [90, 205]; app.canvas.setDirty(true, true); }")
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.wait_for_function("() => app.graph.nodes.some(n => n.type === 'CODiffSaveJPEG' && n.imgs?.length)")
    page.wait_for_timeout(1000)
    page.screenshot(path=PICTURES / "comfyui-skip.jpg", type="jpeg", quality=90, clip=GRAPH)


def take_picture_of_help(page: Page) -> None:
    """For the documentation: what the page says of a node."""
    page.evaluate(
        """() => {
            app.canvas.ds.offset = [490, 300];
            app.canvas.selectNode(app.graph.nodes.find(node => node.type === 'CODiffRestoreJPEG'));
        }"""
    )
    page.get_by_test_id("info-button").click()
    page.get_by_text("ringing and colour bleeding").wait_for()
    page.mouse.move(900, 800)  # no tooltips
    page.wait_for_timeout(1000)
    page.screenshot(path=PICTURES / "comfyui-help.jpg", type="jpeg", quality=90, clip=HELP)


def draw_pictures() -> None:
    """Write thumbnails, icon and banner."""
    restorer = Restorer.load("compact", "cpu")

    def both(name: str, middle: tuple[float, float], size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
        """A part of a photo as it is and restored."""
        photo = JpegPhoto.open(PHOTOS / name)
        pictures = Image.open(PHOTOS / name), Image.fromarray(restore_photo(photo, restorer))
        left, top = (
            round(at * whole - side / 2) for at, whole, side in zip(middle, pictures[0].size, size, strict=True)
        )
        before, after = (picture.crop((left, top, left + size[0], top + size[1])) for picture in pictures)
        return before, after

    def joined(before: Image.Image, after: Image.Image, zoom: int = 1) -> Image.Image:
        """The left half of one and the right half of the other, with a white line between."""
        sheet, half = after.copy(), after.width // 2
        sheet.paste(before.crop((0, 0, half, before.height)), (0, 0))
        sheet = sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST)
        sheet.paste((255, 255, 255), (half * zoom - 1, 0, half * zoom + 1, sheet.height))
        return sheet

    hallway = both("orange-hallway.jpg", (0.55, 0.5), (SIDE // 2, SIDE // 2))
    lavender = both("lavender.jpg", (0.5, 0.5), (SIDE // 2, SIDE // 2))
    strudel = both("apple-strudel-good.jpg", (0.5, 0.5), (SIDE // 2, SIDE // 2))[0]
    joined(*hallway, zoom=2).save(EXAMPLES / "Restore one photo.jpg", quality=90)
    judged = Image.new("RGB", (SIDE, SIDE), "white")
    judged.paste(strudel.resize((SIDE, SIDE)).crop((0, 0, SIDE, SIDE // 2 - 2)), (0, 0))
    judged.paste(joined(*lavender, zoom=2).crop((0, 0, SIDE, SIDE // 2 - 2)), (0, SIDE // 2 + 2))
    judged.save(EXAMPLES / "Judge one photo and skip it if it is good.jpg", quality=90)
    album = Image.new("RGB", (SIDE, SIDE), "white")
    step = SIDE // 2 + 2
    tiles = (
        joined(*hallway),
        joined(*lavender),
        strudel,
        joined(*both("orange-hallway.jpg", (0.3, 0.25), (SIDE // 2,) * 2)),
    )
    for index, tile in enumerate(tiles):
        album.paste(tile.crop((0, 0, SIDE // 2 - 2, SIDE // 2 - 2)), (index % 2 * step, index // 2 * step))
    album.save(EXAMPLES / "Restore a folder.jpg", quality=90)
    joined(*both("lavender.jpg", (0.5, 0.5), (200, 200)), zoom=2).save(PACK / "icon.png")
    joined(*both("orange-hallway.jpg", (0.5, 0.5), (420, 180)), zoom=3).save(PACK / "banner.jpg", quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
