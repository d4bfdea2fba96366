"""Before and After: one picture of both, with a line between."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from .bridge import CATEGORY, aliases

LINE = 2
"""Pixels of white between the two."""


class BeforeAfter(io.ComfyNode):
    """Shows two images in one, where ComfyUI has no node of its own for that."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CODiffBeforeAfter",
            display_name="Before and After (CODiff)",
            category=CATEGORY,
            description=(
                "Shows the image before on the left of a line and after on its right, at full size or enlarged, of the "
                "part that you choose. Newer versions of ComfyUI have 'Image Compare', which takes the same two images."
            ),
            is_output_node=True,
            inputs=[
                io.Image.Input("before", tooltip="From 'before' of 'Restore JPEG (CODiff)'."),
                io.Image.Input("after", tooltip="From 'image' of the same node."),
                io.Float.Input(
                    "split", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="Where the line is, from left to right."
                ),
                io.Int.Input(
                    "side",
                    default=0,
                    min=0,
                    max=8192,
                    tooltip="Side of the square to show, in pixels; 0 for all.",
                ),
                io.Float.Input("x", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="Middle of that square across."),
                io.Float.Input("y", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="Middle of that square down."),
                io.Int.Input("zoom", default=1, min=1, max=8, tooltip="Enlarge by this factor."),
            ],
            outputs=[io.Image.Output(display_name="comparison", tooltip="The picture of both.")],
            **aliases("compare", "difference", "slider"),
        )

    @classmethod
    def execute(
        cls, before: torch.Tensor, after: torch.Tensor, split: float, side: int, x: float, y: float, zoom: int
    ) -> io.NodeOutput:
        """Put both into one."""
        if before.shape[:3] != after.shape[:3]:
            raise ValueError(
                f"The image before is {before.shape[2]}x{before.shape[1]} pixels and the one after "
                f"{after.shape[2]}x{after.shape[1]}; compare what has one size."
            )
        height, width = after.shape[1:3]
        rows, columns = _part(height, side, y), _part(width, side, x)
        both = after[:, rows, columns, :3].clone()
        line = round(split * both.shape[2])
        both[:, :, :line] = before[:, rows, columns, :3][:, :, :line].to(both)
        both = both.repeat_interleave(zoom, dim=1).repeat_interleave(zoom, dim=2)
        if 0 < line < columns.stop - columns.start:
            both[:, :, max(0, line * zoom - LINE // 2) : line * zoom + LINE // 2] = 1.0
        return io.NodeOutput(both, ui=ui.PreviewImage(both, cls=cls))


def _part(length: int, side: int, middle: float) -> slice:
    """A stretch of the side around the middle, as far as there is room."""
    side = min(side or length, length)
    start = min(max(0, round(middle * length - side / 2)), length - side)
    return slice(start, start + side)
