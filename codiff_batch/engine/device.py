"""Which device the networks run on, and how long they will take."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn import functional as F

from codiff_batch.errors import DeviceUnavailable
from codiff_batch.models.card import ModelCard

NETWORKS_SHARE = 0.65
"""Share of a plain convolution's speed that the full model reached on a CPU."""


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` into a device that exists.

    Raises:
        DeviceUnavailable: the name is not one of these, or the machine has no such device.
    """
    cuda_count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return indexed(torch.device("cuda" if cuda_count else "mps" if has_mps else "cpu"))
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdecimal())):
        raise DeviceUnavailable(f"device {name!r} is not one of auto, cpu, cuda, cuda:N, mps")
    if kind == "mps" and not has_mps:
        raise DeviceUnavailable("device 'mps' is not available on this machine")
    if kind == "cuda" and int(index or 0) >= cuda_count:
        found = f"{cuda_count} CUDA device(s) found" if cuda_count else "no CUDA device found"
        raise DeviceUnavailable(f"device {name!r} is not available: {found}")
    return indexed(torch.device(name))


def indexed(device: torch.device) -> torch.device:
    """Add the index to ``cuda``, which means the current GPU; torch needs it in some places."""
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


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
