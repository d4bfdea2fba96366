"""Save JPEG: the picture with everything its source carried, inside the output folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import io, ui

from .bridge import (
    CATEGORY,
    JPEG,
    JpegFile,
    aliases,
    engine,
    from_a_loader,
    in_its_own_words,
    only_image,
    own_pixels,
    to_pixels,
)


class SaveJPEG(io.ComfyNode):
    """Writes a JPEG with its source's metadata."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CODiffSaveJPEG",
            display_name="Save JPEG (CODiff)",
            category=CATEGORY,
            description=(
                "Saves an image as JPEG with all of its source's metadata (EXIF, colour profile, XMP, comments), byte "
                "for byte. The file appears whole or not at all, and never replaces another. An unchanged image is "
                "saved byte for byte as its source."
            ),
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The picture, of the source's size and not rotated."),
                JPEG.Input("jpeg", tooltip="The source, from 'Load JPEG (CODiff)': its metadata is carried over."),
                io.String.Input(
                    "filename_prefix",
                    default="codiff/%source%",
                    tooltip="Name inside the output folder; %source% becomes the source's name with its subfolders.",
                ),
                io.Int.Input("quality", default=95, min=1, max=100, tooltip="JPEG quality, always 4:4:4."),
                io.Boolean.Input(
                    "include_signed",
                    default=False,
                    tooltip="Save C2PA-signed photos too and drop their manifest, which no longer fits.",
                ),
                io.Boolean.Input(
                    "embed_workflow",
                    default=False,
                    optional=True,
                    tooltip="Write the workflow into the file as comments. It adds kilobytes, and others can read it.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            outputs=[io.String.Output(display_name="path", tooltip="Where the file is.")],
            **aliases("jpg", "save image", "exif", "metadata"),
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        jpeg: JpegFile,
        filename_prefix: str,
        quality: int,
        include_signed: bool,
        embed_workflow: bool = False,
    ) -> io.NodeOutput:
        """Encode and write."""
        from_a_loader(jpeg)
        only_image(image, jpeg)
        throw_exception_if_processing_interrupted()
        package = engine()
        from codiff_batch.files.atomic import write_atomically
        from codiff_batch.jpeg import encode_jpeg
        from codiff_batch.jpeg.metadata import is_signed

        if image.shape[3] == 4 and not bool((image[..., 3] == 1).all()):
            raise ValueError("A JPEG has no transparency: put the image on a background first, or save it as PNG.")
        pixels = to_pixels(image[0])
        # A workflow would make a signature invalid, as a change of the pixels would.
        unchanged = own_pixels(image, jpeg) is not None and not (embed_workflow and is_signed(jpeg.photo.structure))
        if jpeg.header.colour == "gray" and (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
        path, subfolder = _new_name(filename_prefix.replace("%source%", jpeg.name), pixels.shape)
        judged = f" qf={jpeg.estimated_qf:.0f}" if jpeg.estimated_qf is not None else ""
        note = f"codiff-batch {package.__version__} (ComfyUI){judged}"
        with in_its_own_words():
            if unchanged:
                data = jpeg.photo.data
            else:
                data = encode_jpeg(pixels, jpeg.photo, note=note, quality=quality, drop_signature=include_signed)
            if embed_workflow:
                data = with_workflow(data, cls.hidden)
            write_atomically(path, data, like=jpeg.path)
        index, count = jpeg.place
        comfy.utils.ProgressBar(count).update_absolute(index + 1)
        saved = ui.SavedResult(path.name, subfolder, io.FolderType.output)
        return io.NodeOutput(str(path), ui=ui.SavedImages([saved]))


def _new_name(prefix: str, shape: tuple[int, ...]) -> tuple[Path, str]:
    """Path and subfolder of a file that is not there yet, inside the output folder."""
    try:
        # Refuses a prefix that leads out of the output folder.
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory(), shape[1], shape[0]
        )
    except Exception as error:  # ComfyUI raises no narrower one
        raise ValueError(f"filename_prefix {prefix[:60]!r} is no name inside the output folder: {error}") from None
    return Path(folder) / f"{name}_{counter:05}_.jpg", subfolder


def with_workflow(data: bytes, hidden: Any) -> bytes:
    """A JPEG with the graph as ComfyUI puts it into other formats: a comment for the page, and one for the server.

    Raises:
        ValueError: one is too long for a segment.
    """
    from codiff_batch.jpeg.encode import LONGEST_COMMENT, with_comments
    from codiff_batch.jpeg.segments import parse

    texts = {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {})}
    comments = [f"{name}:{json.dumps(value)}".encode() for name, value in texts.items() if value is not None]
    if (longest := max(map(len, comments), default=0)) > LONGEST_COMMENT:
        raise ValueError(
            f"The workflow has {longest} bytes and a JPEG's comment holds {LONGEST_COMMENT}: turn "
            "'embed_workflow' off, and save the workflow by itself."
        )
    return with_comments(parse(data), comments).emit()
