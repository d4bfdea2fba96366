"""Load JPEG, one or a folder: pixels as stored in the file, and the file itself beside them."""

from __future__ import annotations

import logging
from pathlib import Path

import comfy.utils
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import io

from .bridge import CATEGORY, JPEG, JpegFile, aliases, in_its_own_words, to_image
from .example import EXAMPLE_FOLDER
from .places import input_file, input_folder, photos
from .stored import Stored

log = logging.getLogger(__name__)


def read(path: Path, name: str, place: tuple[int, int] = (0, 1)) -> tuple[torch.Tensor, JpegFile]:
    """Read a file: image (1, H, W, 3) and the file.

    Raises:
        ValueError: with the engine's own words, such as that the file is truncated.
    """
    with in_its_own_words(f"{path.name}: "):
        jpeg = JpegFile.open(path, name, place)
        return to_image(jpeg.photo.pixels()), jpeg


def stamps(paths: list[Path]) -> str:
    """Changes with any of the files."""
    found = [(path, path.stat()) for path in paths]
    return repr([(str(path), status.st_ino, status.st_size, status.st_mtime_ns) for path, status in found])


def never_the_same() -> float:
    """A fingerprint that equals no other: another object each time, as containers take the same one for equal."""
    return float("nan")


def describe(jpeg: JpegFile) -> str:
    """One line about a file."""
    header = jpeg.header
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
                    options=photos("", subfolders=False),
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
    def validate_inputs(cls, image: str | None) -> bool | str:
        """Refuse what is not there, or elsewhere, before anything runs; a linked input is None until then."""
        if image is None:
            return True
        try:
            input_file(image)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, image: str | None) -> str | float:
        """Changes with the file; always, if a linked input tells only later which one."""
        return never_the_same() if image is None else stamps([input_file(image)])

    @classmethod
    def execute(cls, image: str) -> io.NodeOutput:
        """Load."""
        loaded, jpeg = read(input_file(image), image)
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
                "may differ in size, and the memory holds a few at a time. Files that cannot be read are left out and "
                "named in 'failures'."
            ),
            inputs=[
                io.String.Input(
                    "folder",
                    default=EXAMPLE_FOLDER,
                    tooltip="Folder inside ComfyUI's input folder; empty for the latter.",
                ),
                io.Boolean.Input("subfolders", default=False, tooltip="Include subfolders."),
                io.Int.Input("first", default=0, min=0, max=1_000_000, tooltip="Photos to skip, in order of name."),
                io.Int.Input(
                    "count",
                    default=100,
                    min=1,
                    max=10_000,
                    tooltip="Load at most this many photos; their pixels stay on disk until a node works on them.",
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
    def validate_inputs(cls, folder: str | None) -> bool | str:
        """Only folders inside the input folder; a linked input is None until the graph runs."""
        if folder is None:
            return True
        try:
            input_folder(folder)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(
        cls, folder: str | None, subfolders: bool | None, first: int | None, count: int | None
    ) -> str | float:
        """Changes with any of the files; always, if a linked input tells only later which ones."""
        if folder is None or subfolders is None or first is None or count is None:
            return never_the_same()
        names = photos(folder, subfolders=subfolders)[first : first + count]
        return stamps([input_file(str(Path(folder, name))) for name in names])

    @classmethod
    def execute(cls, folder: str, subfolders: bool, first: int, count: int) -> io.NodeOutput:
        """Look at each photo once; the pixels stay on disk until a node asks for them."""
        images, jpegs, failures = [], [], []
        names = photos(folder, subfolders=subfolders)[first : first + count]
        bar = comfy.utils.ProgressBar(len(names))
        for index, name in enumerate(names):
            throw_exception_if_processing_interrupted()
            try:
                image, jpeg = read(input_file(str(Path(folder, name))), name, (index, len(names)))
            except ValueError as error:
                log.warning("CODiff: left out: %s", error)
                failures.append(str(error))
                continue
            images.append(Stored(*image.shape[1:3], lambda jpeg=jpeg: to_image(jpeg.photo.pixels())))
            jpegs.append(jpeg)
            bar.update_absolute(index + 1)
        if not images:
            what = (
                f"none of the {len(names)} JPEG files could be read: {failures[0]}" if names else "no JPEG files there"
            )
            raise ValueError(f"Input folder {folder or '.'!r}: {what}")
        return io.NodeOutput(images, jpegs, "\n".join(failures))
