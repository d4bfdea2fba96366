"""The engine at work under ComfyUI's rules: its memory, its progress bar, its interruption."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.utils
import torch
from comfy.model_management import throw_exception_if_processing_interrupted

from .bridge import LoadedModel, engine

if TYPE_CHECKING:
    from codiff_batch.engine import Restorer

BYTES_PER_PIXEL = 850
"""Room for a tile's activations, where the card does not say: twice what the compact model took on a CPU."""


def restorer_of(model: LoadedModel, *, tile: int = 0, batch: int = 0) -> Restorer:
    """A Restorer around the model, which ComfyUI has brought to its device.

    Args:
        model: from the loader node.
        tile: side of a tile in pixels; 0 for the model's own.
        batch: tiles at a time; 0 for what suits the device.
    """
    engine()
    from codiff_batch.engine import Restorer
    from codiff_batch.models.loading import Networks

    each = model.card.working_memory or BYTES_PER_PIXEL
    needed = (tile or model.card.tile) ** 2 * each * max(batch, 1)
    comfy.model_management.load_models_gpu([model.patcher], memory_required=needed)
    networks = Networks(model.patcher.model["cave"], model.patcher.model["generator"])
    device = model.patcher.load_device
    return Restorer(model.card, networks, device, batch or None, tile or None, precision=model.precision)


def progress_bar(place: tuple[int, int] = (0, 1)) -> Callable[[int, int], None]:
    """Shows tiles as they are done, of the whole list where the image is one of many.

    Args:
        place: which image of how many.
    """
    index, count = place
    bar: comfy.utils.ProgressBar | None = None

    def show(done: int, tiles: int) -> None:
        nonlocal bar
        throw_exception_if_processing_interrupted()
        bar = bar or comfy.utils.ProgressBar(tiles * count)
        bar.update_absolute(tiles * index + done, tiles * count)

    return show


def interruptible(module: torch.nn.Module) -> torch.nn.Module:
    """Let a network stop between two of its layers when the user cancels: a tile on a processor takes seconds."""
    for layer in module.modules():
        layer.register_forward_pre_hook(lambda *_: throw_exception_if_processing_interrupted())
    return module
