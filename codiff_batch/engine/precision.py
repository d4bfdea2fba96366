"""Which floating-point precision the networks compute in."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F

from codiff_batch.engine.measured import remembered
from codiff_batch.errors import SettingRefused
from codiff_batch.models.card import ModelCard

ASKED = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What may be asked for, besides ``auto``."""

WORTH_IT = 1.25
"""How many times faster bfloat16 must be on a CPU to be used."""


class Precision(NamedTuple):
    """Floats of a model on a device."""

    weights: torch.dtype
    """Of weights and pictures, and of all that CaVE does."""
    steps: torch.dtype | None = None
    """What the generator's layers compute in, if that differs; sums and the picture itself keep their precision."""


def choose_precision(card: ModelCard, device: torch.device, asked: str = "auto") -> Precision:
    """Use what was asked for; else 16-bit floats if the model allows them and the device is faster with them.

    On a GPU they are float16; on a CPU bfloat16 if it supports that natively, and for small models only if that was
    measured to be faster on this machine.

    Args:
        card: says what the model allows.
        device: where it runs.
        asked: ``auto``, or one of :data:`ASKED`.

    Raises:
        SettingRefused: something else was asked for.
    """
    if asked not in ("auto", *ASKED):
        raise SettingRefused("precision", f"'precision' must be auto, {', '.join(ASKED)}, not {asked!r}")
    if asked != "auto":
        floats = ASKED[asked]
        small = card.half_steps and not card.half_precision and floats != torch.float32
        return Precision(torch.float32, floats) if small else Precision(floats)
    if card.half_precision:
        on_cpu = torch.bfloat16 if has_native_bfloat16() else torch.float32
        return Precision(on_cpu if device.type == "cpu" else torch.float16)
    if card.half_steps and device.type == "cuda":
        return Precision(torch.float32, torch.float16)
    if card.half_steps and device.type == "cpu" and bfloat16_is_faster():
        return Precision(torch.float32, torch.bfloat16)
    return Precision(torch.float32)


def has_native_bfloat16() -> bool:
    """Return True if the CPU supports bfloat16 natively; elsewhere it is slower than 32-bit floats."""
    has_mkldnn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@cache
def bfloat16_is_faster(folder: Path | None = None) -> bool:
    """Return True if this CPU is faster in bfloat16, by a measurement that takes a fraction of a second.

    The result is kept, so that the same machine gives the same bytes; where it cannot be, the answer is no.

    Args:
        folder: where it is kept, instead of the user's cache directory.
    """
    if not has_native_bfloat16():
        return False
    return bool(remembered("bfloat16", lambda: int(_times_faster() >= WORTH_IT), folder, unkept=0))


@torch.inference_mode()
def _times_faster() -> float:
    """How many times faster a convolution of the bundled models is in bfloat16, comparing the best times."""
    maps = torch.rand(1, 80, 192, 192).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(80, 80, 3, 3).contiguous(memory_format=torch.channels_last)
    best = {}
    for floats in (torch.float32, torch.bfloat16):
        seen, by = maps.to(floats), weight.to(floats)
        times = []
        for _ in range(6):
            started = time.perf_counter()
            F.conv2d(seen, by, padding=1)
            times.append(time.perf_counter() - started)
        best[floats] = min(times)
    return best[torch.float32] / best[torch.bfloat16]
