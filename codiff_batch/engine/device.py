"""Which device the networks run on, and how long they will take."""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional as F

from codiff_batch.errors import DeviceUnavailable
from codiff_batch.models.card import ModelCard

NETWORKS_SHARE = 0.65
"""Share of a plain convolution's speed that the full model reached on a CPU."""


NUMBERED = {"cuda": "CUDA", "xpu": "Intel"}
"""Kinds of GPUs of which there may be several, and what messages call them."""


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``mps``, or ``cuda`` or ``xpu`` with or without ``:N`` into a device that exists.

    ``auto`` takes the current GPU of NVIDIA's (or AMD's, which torch calls ``cuda`` too), Intel's or Apple's, in this
    order, and the CPU where there is none.

    Raises:
        DeviceUnavailable: the name is not one of these, or the machine has no such device.
    """
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        gpu = next((kind for kind in NUMBERED if _count(kind)), "mps" if has_mps else "cpu")
        return indexed(torch.device(gpu))
    if not re.fullmatch(f"cpu|mps|({'|'.join(NUMBERED)})(:[0-9]{{1,4}})?", name):
        raise DeviceUnavailable(f"device {name!r} is not one of auto, cpu, cuda, cuda:N, xpu, xpu:N, mps")
    kind, _, index = name.partition(":")
    if kind == "mps" and not has_mps:
        raise DeviceUnavailable("device 'mps' is not available on this machine")
    if kind in NUMBERED and int(index or 0) >= (count := _count(kind)):
        found = f"{count} {NUMBERED[kind]} device(s) found" if count else f"no {NUMBERED[kind]} device found"
        raise DeviceUnavailable(f"device {name!r} is not available: {found}")
    return indexed(torch.device(name))


def numbered_gpus() -> list[torch.device]:
    """All GPUs of the kinds in :data:`NUMBERED`."""
    return [torch.device(kind, index) for kind in NUMBERED for index in range(_count(kind))]


def _count(kind: str) -> int:
    """How many GPUs of a kind of :data:`NUMBERED` there are."""
    backend: Any = getattr(torch, kind)
    return int(backend.device_count()) if backend.is_available() else 0


def indexed(device: torch.device) -> torch.device:
    """Add the index to ``cuda`` or ``xpu``, which means the current GPU; torch needs it in some places."""
    if device.type not in NUMBERED or device.index is not None:
        return device
    return torch.device(device.type, getattr(torch, device.type).current_device())


def as_current(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one: work is queued on its streams, and memory is pinned in its context."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@torch.inference_mode()
def seconds_per_megapixel(card: ModelCard, device: torch.device, precision: torch.dtype) -> float:
    """Estimate how long a model takes, by timing a short convolution; 0 if the card has no figure."""
    channels, side = 256, 64
    features = torch.zeros(1, channels, side, side, device=device, dtype=precision)
    weight = torch.zeros(channels, channels, 3, 3, device=device, dtype=precision)
    rates = []
    for _ in range(3):
        started = time.perf_counter()
        F.conv2d(features, weight, padding=1).flatten()[0].item()
        rates.append(weight.numel() * side**2 / (time.perf_counter() - started))
    seen_twice = (card.tile / (card.tile - card.overlap)) ** 2
    return seen_twice * card.macs_per_pixel * 1e6 / (max(rates) * NETWORKS_SHARE)
