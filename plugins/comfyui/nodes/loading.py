"""Load JPEG, one or a folder: pixels as stored in the file, and the file itself beside them."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from .bridge import CATEGORY, JPEG, JpegFile, aliases, engine, in_its_own_words, to_image

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")


def read(path: Path) -> tuple[Any, JpegFile]:
    """Read a file: image (1, H, W, 3) and the file.

    Raises:
        ValueError: with the engine's own words, such as that the file is truncated.
    """
    with in_its_own_words(f"{path.name}: "):
        photo = engine().JpegPhoto.open(path)
        return to_image(photo.pixels()), JpegFile(photo)


def describe(jpeg: JpegFile) -> str:
    """One line about a file."""
    header = jpeg.photo.header
    kinds = ", ".join(jpeg.photo.metadata().kinds()) or "no metadata"
    size = f"{header.width}x{header.height}"
    return f"{size}, {header.sampling}, {header.process}, QF {header.qf:.0f} by its tables; {kinds}"


class LoadJPEG(io.ComfyNode):
    """One photo from the input folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CODiffLoadJPEG",
            display_name="Load JPEG (CODiff)",
            category=CATEGORY,
            description=(
                "Loads a JPEG together with the file behind it: quantization tables, EXIF, colour profile. The image "
                "is as stored, not turned by its Orientation tag, because the compression's 8x8 grid lies that way; "
                "'Save JPEG (CODiff)' keeps the tag."
            ),
            inputs=[
                io.Combo.Input(
                    "image",
                    options=_photos(Path(folder_paths.get_input_directory())),
                    upload=io.UploadType.image,
                    image_folder=io.FolderType.input,
                    tooltip="A JPEG file of the input folder, or one that you upload. Other formats are refused.",
                )
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The decoded pixels, as stored in the file."),
                JPEG.Output(display_name="jpeg", tooltip="The file: tables, sampling, quality, EXIF, profile, path."),
                io.String.Output(display_name="info", tooltip="Size, sampling, quality and metadata in one line."),
            ],
            **aliases("jpeg", "jpg", "load image", "deblock", "artifact"),
        )

    @classmethod
    def validate_inputs(cls, image: str) -> bool | str:
        """Refuse what is not there before anything runs."""
        return (
            True
            if folder_paths.exists_annotated_filepath(image)
            else f"There is no file {image!r} in the input folder."
        )

    @classmethod
    def fingerprint_inputs(cls, image: str) -> str:
        """Changes with the file's bytes."""
        return hashlib.sha256(Path(folder_paths.get_annotated_filepath(image)).read_bytes()).hexdigest()

    @classmethod
    def execute(cls, image: str) -> io.NodeOutput:
        """Load."""
        loaded, jpeg = read(Path(folder_paths.get_annotated_filepath(image)))
        return io.NodeOutput(loaded, jpeg, describe(jpeg))


class LoadJPEGFolder(io.ComfyNode):
    """All photos of a folder, one by one down the graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CODiffLoadJPEGFolder",
            display_name="Load JPEG Folder (CODiff)",
            category=CATEGORY,
            description=(
                "Loads all JPEGs of a folder inside the input folder. They go through the graph one by one, so they "
                "may differ in size. Files that cannot be read are left out and named in 'failures'."
            ),
            inputs=[
                io.String.Input(
                    "folder", default="", tooltip="Folder inside ComfyUI's input folder; empty for the latter."
                ),
                io.Boolean.Input("subfolders", default=False, tooltip="Look into folders inside it as well."),
                io.Int.Input("first", default=0, min=0, max=1_000_000, tooltip="Photos to pass over, by name."),
                io.Int.Input(
                    "count",
                    default=100,
                    min=1,
                    max=10_000,
                    tooltip="Photos to load at most; all of them lie in memory.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", is_output_list=True, tooltip="The photos' pixels, as stored."),
                JPEG.Output(display_name="jpeg", is_output_list=True, tooltip="The photos' files, in the same order."),
                io.String.Output(display_name="failures", tooltip="One line for each file that could not be read."),
            ],
            **aliases("jpeg batch", "jpg folder", "load images"),
        )

    @classmethod
    def validate_inputs(cls, folder: str) -> bool | str:
        """Only folders inside the input folder."""
        try:
            _inside_input(folder)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: str, subfolders: bool, first: int, count: int) -> str:
        """Changes with any of the files."""
        files = _files(_inside_input(folder), subfolders)[first : first + count]
        seen = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hashlib.sha256(repr(seen).encode()).hexdigest()

    @classmethod
    def execute(cls, folder: str, subfolders: bool, first: int, count: int) -> io.NodeOutput:
        """Load."""
        images, jpegs, failures = [], [], []
        files = _files(_inside_input(folder), subfolders)[first : first + count]
        for path in files:
            try:
                image, jpeg = read(path)
            except ValueError as error:
                log.warning("CODiff: left out: %s", error)
                failures.append(str(error))
                continue
            images.append(image)
            jpegs.append(jpeg)
        if not images:
            what = (
                f"none of the {len(files)} JPEG files could be read: {failures[0]}" if files else "no JPEG files there"
            )
            raise ValueError(f"Input folder {folder or '.'!r}: {what}")
        return io.NodeOutput(images, jpegs, "\n".join(failures))


def _photos(folder: Path) -> list[str]:
    return [path.name for path in _files(folder, subfolders=False)]


def _files(folder: Path, subfolders: bool) -> list[Path]:
    found = folder.rglob("*") if subfolders else folder.iterdir()
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())


def _inside_input(folder: str) -> Path:
    root = Path(folder_paths.get_input_directory()).resolve()
    path = (root / folder).resolve()
    if not path.is_relative_to(root):
        raise ValueError(f"{folder!r} is outside the input folder.")
    if not path.is_dir():
        raise ValueError(f"There is no folder {folder!r} in the input folder.")
    return path
