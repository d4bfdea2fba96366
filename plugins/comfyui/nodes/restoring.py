"""Restore JPEG: the engine's work on an image, with its file's help where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import io, ui

from .bridge import (
    CATEGORY,
    JPEG,
    MODEL,
    JpegFile,
    LoadedModel,
    aliases,
    changed,
    in_its_own_words,
    only_image,
    own_pixels,
    to_pixels,
)
from .offering import OFF, number, switch
from .running import progress_bar, restorer_of
from .stored import Stored, stored

if TYPE_CHECKING:
    from codiff_batch.engine import Restorer
    from codiff_batch.settings import Judging, Settings


class RestoreJPEG(io.ComfyNode):
    """Removes compression artifacts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CODiffRestoreJPEG",
            display_name="Restore JPEG (CODiff)",
            category=CATEGORY,
            description=(
                "Removes JPEG artifacts in one denoising step. With 'jpeg' connected and the image unchanged, the "
                "result is the command line's: the file's tables guide the network, and every coefficient stays in the "
                "cell that the file recorded."
            ),
            inputs=[
                io.Image.Input("image", tooltip="One image or a batch, neither scaled nor rotated."),
                MODEL.Input("model", tooltip="From 'Load CODiff Model'."),
                JPEG.Input(
                    "jpeg", optional=True, tooltip="The image's file, from 'Load JPEG (CODiff)'. Restores better."
                ),
                number("strength"),
                switch("constrain", also="Needs 'jpeg' and its own image."),
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
                number("texture", optional=True),
                number("min_qf", also="Each image is judged by itself; 0 restores all.", optional=True, off=True),
                number("qf", also="0 leaves it to them.", optional=True, off=True),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The restored image, of the same size."),
                io.String.Output(display_name="report", tooltip="What was done, in one line."),
                io.Image.Output(display_name="before", tooltip="The image as it came, to compare."),
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
        texture: float | None = None,
        min_qf: float = OFF,
        qf: float = OFF,
    ) -> io.NodeOutput:
        """Restore, one image of a batch after the other."""
        only_image(image, jpeg)
        throw_exception_if_processing_interrupted()
        if strength == 0:
            return told(image, image, "strength 0: nothing was changed")
        restorer = restorer_of(model, tile=tile, batch=tiles_at_once)
        results = []
        with in_its_own_words():
            from codiff_batch.settings import Judging, Settings

            amount = texture if model.card.adds_texture else None
            by_hand = None if qf == OFF else qf
            settings = Settings(strength=strength, texture=amount, constrain=constrain, qf=by_hand)
            judging = None if min_qf == OFF else Judging(min_qf=min_qf)
            for index, one in enumerate(image):
                place = jpeg.place if jpeg is not None else (index, image.shape[0])
                results.append(_restore(one, restorer, jpeg, place, settings, judging))
        images, reports = zip(*results, strict=True)
        if len(set(reports)) == 1 and len(reports) > 1:
            reports = (f"{len(reports)} images, each {reports[0]}",)
        if all(new is None for new in images):
            return told(image, image, "; ".join(reports))
        restored = torch.cat([one[None] if new is None else new for one, new in zip(image, images, strict=True)])
        # One of a list waits on disk for the node that wants it.
        return told(stored(restored) if isinstance(image, Stored) else restored, image, "; ".join(reports))


def told(image: torch.Tensor, before: torch.Tensor, report: str) -> io.NodeOutput:
    """The node's outputs, its report also below it."""
    return io.NodeOutput(image, report, before, ui=ui.PreviewText(report))


def _restore(
    one: torch.Tensor,
    restorer: Restorer,
    jpeg: JpegFile | None,
    place: tuple[int, int],
    settings: Settings,
    judging: Judging | None,
) -> tuple[torch.Tensor | None, str]:
    """Restore (H, W, C): the result (1, H, W, C), or None where it is good already; and what was done."""
    from codiff_batch.engine.judge import Action
    from codiff_batch.engine.photo import Decoded, judged, restore

    seen = to_pixels(one)
    own = own_pixels(one[None], jpeg) if jpeg is not None else None
    if jpeg is not None and own is not None:
        decoded = Decoded.of(jpeg.photo, own)
    else:
        decoded = Decoded(seen, tables=jpeg.tables if jpeg is not None else None)
    embedding = restorer.embed_crops([decoded.crops(settings)])[0]
    verdict = judged(decoded, embedding, settings, judging).verdict
    if verdict.action is Action.SKIP:
        return None, f"left alone, {verdict.reason}"
    restored = restore(decoded, restorer, settings, embedding=embedding, progress=progress_bar(place))
    after = restored.pixels if restored.pixels.ndim == 3 else np.repeat(restored.pixels[..., None], 3, axis=2)
    tables = "with the file's tables, " if decoded.tables is not None and decoded.photo is None else ""
    return changed(one, seen, after), f"restored by {restorer.name}, {tables}{restored.reason}"
