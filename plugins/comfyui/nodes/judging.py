"""Estimate JPEG Quality, and Skip if Good, which spares good photos the work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
    engine,
    in_its_own_words,
    only_image,
    to_pixels,
)
from .offering import limits, number
from .running import restorer_of


class EstimateQuality(io.ComfyNode):
    """What the pixels went through."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CODiffEstimateQuality",
            display_name="Estimate JPEG Quality",
            category=CATEGORY,
            description=(
                "CaVE reads from the pixels how hard they were compressed, whatever the file says: a photo that was "
                "crushed and saved again at high quality is recognised. Feed it pixels that were not resized."
            ),
            inputs=[
                io.Image.Input("image", tooltip="One image or a batch, unscaled, from 'Load JPEG (CODiff)'."),
                MODEL.Input("model", tooltip="From 'Load CODiff Model'."),
                JPEG.Input("jpeg", optional=True, tooltip="The file, whose tables are a second witness."),
            ],
            outputs=[
                io.Float.Output(
                    display_name="quality", tooltip="Lower of both witnesses, 0..100; of a batch the lowest."
                ),
                io.String.Output(display_name="text", tooltip="Both witnesses in words."),
                JPEG.Output(display_name="jpeg", tooltip="The file, with CaVE's estimate noted in it."),
            ],
            **aliases("jpeg quality", "compression", "qf"),
        )

    @classmethod
    def execute(cls, image: torch.Tensor, model: LoadedModel, jpeg: JpegFile | None = None) -> io.NodeOutput:
        """Estimate."""
        only_image(image, jpeg)
        restorer = restorer_of(model)
        throw_exception_if_processing_interrupted()
        with in_its_own_words():
            estimates = [restorer.estimate_qf(to_pixels(one)) for one in image]
        quality = min([*estimates, *([jpeg.header_qf] if jpeg is not None else [])])
        words = ", ".join(f"{estimate:.0f}" for estimate in estimates)
        text = f"quality {words} by the pixels" + (f", {jpeg.header_qf:.0f} by the file's tables" if jpeg else "")
        noted = replace(jpeg, estimated_qf=min(estimates)) if jpeg is not None else None
        return io.NodeOutput(quality, text, noted, ui=ui.PreviewText(text))


class SkipIfGood(io.ComfyNode):
    """Passes a good image on, and asks for the restored one only where it is needed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CODiffSkipIfGood",
            display_name="Skip if Good (CODiff)",
            category=CATEGORY,
            description=(
                "Passes the image itself on if its quality is at least 'min_qf', and the restored one if not. For a "
                "single image what feeds 'restored' runs only when it is needed. ComfyUI decides that once for a whole "
                "list, though: for the photos of a folder set 'min_qf' of 'Restore JPEG (CODiff)' instead."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The unrestored image."),
                io.Float.Input(
                    "quality",
                    force_input=True,
                    **limits("min_qf"),
                    tooltip="From 'Estimate JPEG Quality'.",
                ),
                number("min_qf"),
                io.Image.Input(
                    "restored", lazy=True, tooltip="From 'Restore JPEG (CODiff)'; made only if it is needed."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The image itself, or the restored one."),
                io.Boolean.Output(display_name="skipped", tooltip="Whether the image was already good."),
            ],
            **aliases("switch", "jpeg quality gate"),
        )

    @classmethod
    def check_lazy_status(cls, quality: float, min_qf: float, **others: Any) -> list[str]:
        """Ask for the restored image only where it is needed."""
        return [] if _is_good(quality, min_qf) else ["restored"]

    @classmethod
    def execute(
        cls, image: torch.Tensor, quality: float, min_qf: float, restored: torch.Tensor | None = None
    ) -> io.NodeOutput:
        """Choose."""
        good = _is_good(quality, min_qf)
        text = f"quality {quality:.0f}: " + ("good already" if good else "restored")
        return io.NodeOutput(image if good else restored, good, ui=ui.PreviewText(text))


def _is_good(quality: float, min_qf: float) -> bool:
    """What the judge calls good enough."""
    engine()
    from codiff_batch.engine.judge import is_good

    return is_good(quality, min_qf)
