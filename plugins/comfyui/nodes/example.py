"""Photos for the example workflows, which open with something in them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import folder_paths

EXAMPLE = "codiff-example.jpg"
EXAMPLE_FOLDER = "codiff-examples"
SOURCES = Path(__file__).resolve().parent.parent / "example_photos"


def provide_examples() -> None:
    """Put the pack's photos into ComfyUI's input folder, as ComfyUI itself does with its ``example.png``."""
    folder = Path(folder_paths.get_input_directory())
    targets = {folder / EXAMPLE: SOURCES / "orange-hallway.jpg"}
    targets |= {folder / EXAMPLE_FOLDER / photo.name: photo for photo in SOURCES.glob("*.jpg")}
    try:
        for target, source in targets.items():
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    except OSError as error:
        logging.getLogger(__name__).warning("CODiff: no example photos in the input folder: %s", error)
