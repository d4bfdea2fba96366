"""Save JPEG: the picture with everything its source carried, inside the output folder."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io, ui

from .bridge import CATEGORY, JPEG, JpegFile, aliases, engine, in_its_own_words, only_image, own_pixels, to_pixels


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
                "Saves an image as JPEG with its source's EXIF, colour profile, XMP, comments and all, byte for byte. "
                "The file appears whole or not at all, and never replaces another. An image that nothing changed is "
                "saved as its source's very bytes."
            ),
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The picture, of the source's size and not turned."),
                JPEG.Input("jpeg", tooltip="The source, from 'Load JPEG (CODiff)': its metadata is carried over."),
                io.String.Input(
                    "filename_prefix",
                    default="codiff/%source%",
                    tooltip="Name inside the output folder; %source% becomes the source's name.",
                ),
                io.Int.Input("quality", default=95, min=1, max=100, tooltip="JPEG quality, always 4:4:4."),
                io.Boolean.Input(
                    "include_signed",
                    default=False,
                    tooltip="Save C2PA-signed photos too and drop their manifest, which no longer fits.",
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="Where the file is.")],
            **aliases("jpg", "save image", "exif", "metadata"),
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, jpeg: JpegFile, filename_prefix: str, quality: int, include_signed: bool
    ) -> io.NodeOutput:
        """Encode and write."""
        only_image(image, jpeg)
        package = engine()
        from codiff_batch.files.atomic import write_atomically
        from codiff_batch.jpeg import encode_jpeg

        pixels = to_pixels(image[0])
        unchanged = own_pixels(image, jpeg) is not None
        if jpeg.photo.header.colour == "gray" and (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
        source = jpeg.photo.path.stem if jpeg.photo.path is not None else "photo"
        prefix = filename_prefix.replace("%source%", source)
        # Refuses a prefix that leads out of the output folder.
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory(), pixels.shape[1], pixels.shape[0]
        )
        path = Path(folder) / f"{name}_{counter:05}_.jpg"
        judged = f" qf={jpeg.estimated_qf:.0f}" if jpeg.estimated_qf is not None else ""
        note = f"codiff-batch {package.__version__} (ComfyUI){judged}"
        with in_its_own_words():
            if unchanged:
                data = jpeg.photo.data
            else:
                data = encode_jpeg(pixels, jpeg.photo, note=note, quality=quality, drop_signature=include_signed)
            write_atomically(path, data, like=jpeg.photo.path)
        saved = ui.SavedResult(path.name, subfolder, io.FolderType.output)
        return io.NodeOutput(str(path), ui=ui.SavedImages([saved]))
