"""Which device the networks run on."""

from __future__ import annotations

import torch

from codiff_batch.errors import DeviceUnavailable


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` into a device that is really there.

    Raises:
        DeviceUnavailable: the name is not one of these, or the machine has no such device.
    """
    cuda_count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda_count else "mps" if has_mps else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdecimal())):
        raise DeviceUnavailable(f"device {name!r} is not one of auto, cpu, cuda, cuda:N, mps")
    if kind == "mps" and not has_mps:
        raise DeviceUnavailable("device 'mps' is not available on this machine; use --device cpu")
    if kind == "cuda" and int(index or 0) >= cuda_count:
        found = f"{cuda_count} CUDA device(s) found" if cuda_count else "no CUDA device found"
        raise DeviceUnavailable(f"device {name!r} is not available: {found}; use --device cpu")
    return torch.device(name)
