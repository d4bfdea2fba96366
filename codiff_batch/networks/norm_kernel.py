"""Group normalisation and SiLU of channels-last maps in three passes over memory instead of about eight, by Triton.

Only for GPUs, and not while torch compiles, which fuses these by itself. Importing this needs Triton, which comes with
torch for CUDA.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,misc"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, CHANNELS = 64, 64
"""Positions and channels that a program loads at a time."""

PARTS = 256
"""At most so many parts of a map are summed up by themselves."""


def normalize(maps: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool) -> Tensor:
    """Group-normalise maps (B, C, H, W), which are channels-last in memory and stay so; then SiLU if asked.

    Everything is computed in 32-bit floats, and summed up in a fixed order, so that the same maps give the same bytes.
    """
    count, channels, height, width = maps.shape
    rows = height * width
    each = triton.cdiv(triton.cdiv(rows, PARTS), ROWS) * ROWS
    parts = triton.cdiv(rows, each)
    result = torch.empty_like(maps)
    means, squares = maps.new_empty((2, count, parts, channels), dtype=torch.float32)
    scale, shift = maps.new_empty((2, count, channels), dtype=torch.float32)
    blocks = triton.cdiv(channels, CHANNELS)
    _sum_up[count, parts, blocks](maps, means, squares, rows, channels, each, ROWS, CHANNELS)
    width_of_group = channels // groups
    _merge[count, groups](
        *(means, squares, weight, bias, scale, shift, rows, channels, each, parts, eps, width_of_group),
        *(triton.next_power_of_2(parts), triton.next_power_of_2(width_of_group)),
    )
    _apply[triton.cdiv(rows, ROWS), blocks, count](maps, scale, shift, result, rows, channels, ROWS, CHANNELS, silu)
    return result


@triton.jit
def _sum_up(maps, means, squares, rows, channels, each, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Of one part of a map, each channel's mean and sum of squared distances from it."""
    image, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    there = channel < channels
    first = part.to(tl.int64) * each
    last = tl.minimum(first + each, rows)
    start = maps + image * rows * channels + channel
    # Relative to the first value, which is near the mean: else large means would swallow small variances.
    origin = tl.load(start + first * channels, mask=there, other=0.0).to(tl.float32)
    total = tl.zeros((CHANNELS,), tl.float32)
    total_squares = tl.zeros((CHANNELS,), tl.float32)
    for begin in range(0, each, ROWS):
        row = first + begin + tl.arange(0, ROWS)
        mask = (row < last)[:, None] & there[None, :]
        values = tl.load(start[None, :] + row[:, None] * channels, mask=mask, other=0.0).to(tl.float32)
        values = tl.where(mask, values - origin[None, :], 0.0)
        total += tl.sum(values, axis=0)
        total_squares += tl.sum(values * values, axis=0)
    number = (last - first).to(tl.float32)
    into = (image * tl.num_programs(1) + part) * channels + channel
    tl.store(means + into, origin + total / number, mask=there)
    tl.store(squares + into, total_squares - total * total / number, mask=there)


@triton.jit
def _merge(
    means,
    squares,
    weight,
    bias,
    scale,
    shift,
    rows,
    channels,
    each,
    parts,
    eps,
    width,
    PARTS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Of one group, the factor and the summand of each channel."""
    image, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    part, within = tl.arange(0, PARTS), tl.arange(0, WIDTH)
    channel = group * width + within
    mask = (part < parts)[:, None] & (within < width)[None, :]
    place = (image * parts + part[:, None]) * channels + channel[None, :]
    numbers = tl.where(part < parts, tl.minimum(each, rows - part * each), 0).to(tl.float32)[:, None]
    seen = tl.load(means + place, mask=mask, other=0.0)
    size = tl.sum(numbers) * width
    mean = tl.sum(seen * numbers) / size
    apart = tl.where(mask, seen - mean, 0.0)
    variance = tl.sum(tl.load(squares + place, mask=mask, other=0.0) + numbers * apart * apart) / size
    inside = within < width
    factor = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32) / tl.sqrt(variance + eps)
    summand = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32) - mean * factor
    tl.store(scale + image * channels + channel, factor, mask=inside)
    tl.store(shift + image * channels + channel, summand, mask=inside)


@triton.jit
def _apply(
    maps,
    scale,
    shift,
    result,
    rows,
    channels,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    SILU: tl.constexpr,
):
    """Factor, summand and SiLU."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    image = tl.program_id(2).to(tl.int64)
    there = channel < channels
    mask = (row < rows)[:, None] & there[None, :]
    place = (image * rows + row[:, None]) * channels + channel[None, :]
    factor = tl.load(scale + image * channels + channel, mask=there, other=0.0)
    summand = tl.load(shift + image * channels + channel, mask=there, other=0.0)
    values = tl.load(maps + place, mask=mask, other=0.0).to(tl.float32) * factor[None, :] + summand[None, :]
    if SILU:
        values = values * tl.sigmoid(values)
    tl.store(result + place, values.to(result.dtype.element_ty), mask=mask)
