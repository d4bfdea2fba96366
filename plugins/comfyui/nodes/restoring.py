"""Restore JPEG: the engine's work on an image, with its file's help where there is one."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from .bridge import (
    CATEGORY,
    JPEG,
    MODEL,
    JpegFile,
    LoadedModel,
    aliases,
    engine,
    in_its_own_words,
    only_image,
    own_pixels,
    to_image,
    to_pixels,
)
from .running import progress_bar, restorer_of


class RestoreJPEG(io.ComfyNode):
    """Takes compression artifacts out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CODiffRestoreJPEG",
            display_name="Restore JPEG (CODiff)",
            category=CATEGORY,
            description=(
                "Takes JPEG artifacts out in one denoising step. With 'jpeg' connected and the image unchanged, the "
                "result is the command line's: the file's tables guide the network, and every coefficient stays in the "
                "cell that the file recorded."
            ),
            inputs=[
                io.Image.Input("image", tooltip="One image or a batch, unscaled and unturned."),
                MODEL.Input("model", tooltip="From 'Load CODiff Model'."),
                JPEG.Input(
                    "jpeg", optional=True, tooltip="The image's file, from 'Load JPEG (CODiff)'. Restores better."
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 changes nothing, 1 restores fully, between them a blend.",
                ),
                io.Boolean.Input(
                    "constrain",
                    default=True,
                    tooltip="Keep the result inside the file's quantization cells. Needs 'jpeg' and its own image.",
                ),
                io.Int.Input(
                    "tile",
                    default=0,
                    min=0,
                    max=4096,
                    step=32,
                    tooltip="Side of a tile in pixels; 0 for the model's own. Smaller needs less memory and sees less.",
                ),
                io.Int.Input(
                    "tiles_at_once", default=0, min=0, max=64, tooltip="Tiles per step; 0 for what suits the device."
                ),
                io.Float.Input(
                    "texture",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much of its texture 'natural' adds; 0 is its faithful restoration. Others have none.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The restored image, of the same size."),
                io.String.Output(display_name="report", tooltip="What was done, in one line."),
            ],
            **aliases("jpeg artifact removal", "deblock", "compression artifacts", "remove jpeg artifacts"),
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        model: LoadedModel,
        strength: float,
        constrain: bool,
        tile: int,
        tiles_at_once: int,
        jpeg: JpegFile | None = None,
        texture: float = 1.0,
    ) -> io.NodeOutput:
        """Restore, one image of a batch after the other."""
        only_image(image, jpeg)
        restorer = restorer_of(model, tile=tile, batch=tiles_at_once)
        with in_its_own_words():
            pixels = own_pixels(image, jpeg) if jpeg is not None else None
            if jpeg is not None and pixels is not None:
                restored = engine().restore_photo(
                    jpeg.photo,
                    restorer,
                    strength=strength,
                    texture=texture,
                    constrain=constrain,
                    pixels=pixels,
                    progress=progress_bar(),
                )
                images = [to_image(restored)]
                how = "with the file's tables" + (", inside its cells" if constrain else "")
            else:
                tables = jpeg.tables if jpeg is not None else None
                images = [
                    to_image(
                        restorer.restore(
                            to_pixels(one),
                            strength=strength,
                            texture=texture,
                            tables=tables,
                            progress=progress_bar(),
                        )
                    )
                    for one in image
                ]
                how = "from the pixels alone"
                if jpeg is not None:
                    how = "with the file's tables; the image is not the file's own"
        text = f"restored {len(images)} image{'s' if len(images) > 1 else ''} by {model.card.name}, {how}"
        return io.NodeOutput(torch.cat(images), text, ui=ui.PreviewText(text))
