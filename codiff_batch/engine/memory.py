"""Device memory: how much a step may take, how to recognise a lack of it, and how to free what a failed step held."""

from __future__ import annotations

import gc

import psutil
import torch

from codiff_batch.engine import cgroup
from codiff_batch.engine.device import NUMBERED, indexed
from codiff_batch.models.card import ModelCard

_PHRASES = (
    *("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory"),
    # cuDNN and cuBLAS without room for a workspace; the first two are cuDNN's messages when no algorithm fits.
    *("unable to find an engine", "unable to find a valid cudnn algorithm"),
    *("cudnn_status_alloc_failed", "cublas_status_alloc_failed"),
)

USABLE = 0.8
"""Share of the free memory that a step may take; the rest is for other programs and for fragmentation."""

USED_BY_LARGER_TILES = 0.4
"""Share of a device's memory that one tile may take if it is larger than the model's own."""

MOST_TILES = 16
"""Larger batches keep no device busier."""


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take on a device; on CPUs and Apple's GPUs, half of what is available to it."""
    if device.type == "xpu":
        free_there: int = torch.xpu.mem_get_info(indexed(device))[0]
        return free_there + torch.xpu.memory_reserved(device) - torch.xpu.memory_allocated(device)
    if device.type != "cuda":
        available: int = psutil.virtual_memory().available
        return min([available, *(limit.free for limit in cgroup.limits())]) // 2
    device = indexed(device)
    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_allocated(device)
    # Memory that torch reserved and no tensor uses is free for this process.
    free += torch.cuda.memory_reserved(device) - held
    return min(free, int(total * torch.cuda.get_per_process_memory_fraction(device)) - held)


def total_memory(device: torch.device) -> int:
    """Bytes of a device's memory; on CPUs and Apple's GPUs, of the machine's or of what this process may have of it."""
    if device.type in NUMBERED:
        there: int = getattr(torch, device.type).mem_get_info(device)[1]
        return there
    installed: int = psutil.virtual_memory().total
    return min([installed, *(limit.total for limit in cgroup.limits())])


def fit_tiles(
    card: ModelCard, free: int, total: int, *, precision: torch.dtype, one_at_a_time: bool, one_size: bool
) -> tuple[int, int]:
    """Choose the side of the tiles and how many of them go together at most.

    With larger tiles, less is computed twice: for 12 megapixels, 1.45 times the pixels with sides of 768 and overlaps
    of 128, 1.2 times with 1536. So large models get larger tiles on large devices. This depends on all of the memory,
    not on what is free, so that a picture always gives the same bytes. If not even one tile of the model's own side
    fits, the side is halved as often as needed, down to a quarter. A batch that still needs too much is halved when it
    fails.

    Args:
        free, total: bytes.
        one_at_a_time: for devices that gain nothing from more.
        one_size: whether all tiles have one size, so that larger tiles would be costly for small pictures.

    Returns:
        (side in pixels, tiles in a batch)
    """
    if not card.working_memory:
        return card.tile, 1 if one_at_a_time else 8
    each = card.working_memory * precision.itemsize // 2
    larger = [] if one_at_a_time else [card.tile * 4 // 3] if one_size else [card.tile * 2, card.tile * 4 // 3]
    side = next((side for side in larger if each * side**2 <= USED_BY_LARGER_TILES * total), card.tile)
    while side > card.tile // 4 and each * side**2 > USABLE * free:
        side = card.tile if side > card.tile else side // 2
    count = int(USABLE * free / (each * side**2))
    return side, 1 if one_at_a_time else max(1, min(MOST_TILES, count))


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error of the networks means that memory ran out, on whatever kind of device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The CPU's and Apple's allocators raise a plain RuntimeError, and so do the libraries beneath torch.
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _PHRASES)


def give_back(device: torch.device) -> None:
    """Return unused memory to the device.

    Call it after the ``except`` block: inside, the traceback still holds the tensors of the failed step.
    """
    gc.collect()
    if device.type != "cpu":
        getattr(torch, device.type).empty_cache()
