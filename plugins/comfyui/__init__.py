"""ComfyUI nodes that restore over-compressed JPEGs and keep the file: tables in, metadata out.

A custom node folder for the V3 API. The image work is codiff-batch's; this pack only carries pictures across.
"""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from .nodes import NODES

WEB_DIRECTORY = "./web"


class CODiffExtension(ComfyExtension):
    """The pack's list of nodes."""

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes, as ComfyUI asks for them."""
        return list(NODES)


async def comfy_entrypoint() -> ComfyExtension:
    """Where ComfyUI enters."""
    return CODiffExtension()
