"""libjpeg's lossy arithmetic on tensors, so that pairs can be made on a device: identical integers at every step.

Colour conversion, chroma sampling, the accurate integer DCT ("islow": jfdctint.c, jidctint.c, after Loeffler,
Ligtenberg and Moschytz 1989), quantization, and the decoder's smooth upsampling ("fancy"). Entropy coding loses
nothing and is left out. Sides must be multiples of the MCU, so that no edge has to be padded.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Sampling = Literal["4:4:4", "4:2:2", "4:2:0"]

CONST_BITS, PASS1_BITS = 13, 2
# Constants of the rotations, times 2^13.
C0_298, C0_390, C0_541, C0_765, C0_899, C1_175 = 2446, 3196, 4433, 6270, 7373, 9633
C1_501, C1_847, C1_961, C2_053, C2_562, C3_072 = 12299, 15137, 16069, 16819, 20995, 25172


def simulate(image: Tensor, tables: Tensor, sampling: Sampling) -> Tensor:
    """Compress and decompress RGB images.

    Args:
        image: uint8 (B, 3, H, W), sides multiples of 8, or of 16 where chroma is sampled.
        tables: luma and chroma steps for each image in natural order, (B, 2, 8, 8), 1..255.

    Returns:
        uint8 (B, 3, H, W): what libjpeg's decoder gives for its encoder's file.

    Raises:
        ValueError: a side does not fit.
    """
    across, down = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}[sampling]
    if image.shape[-1] % (8 * across) or image.shape[-2] % (8 * down):
        raise ValueError(f"sides {tuple(image.shape[-2:])} must be multiples of the MCU of {sampling}")
    luma, cb, cr = rgb_to_ycc(image.int()).unbind(1)
    steps = tables.int()
    luma = _through_cells(luma, steps[:, 0])
    chroma = [_upsampled(_through_cells(_downsampled(c, across, down), steps[:, 1]), across, down) for c in (cb, cr)]
    return ycc_to_rgb(torch.stack((luma, *chroma), 1)).byte()


def rgb_to_ycc(image: Tensor) -> Tensor:
    """Integer RGB (B, 3, H, W) to YCbCr in 0..255 (jccolor.c)."""
    red, green, blue = image.unbind(1)
    half, offset = 1 << 15, (128 << 16) + (1 << 15) - 1
    luma = (19595 * red + 38470 * green + 7471 * blue + half) >> 16
    cb = (-11059 * red - 21709 * green + 32768 * blue + offset) >> 16
    cr = (32768 * red - 27439 * green - 5329 * blue + offset) >> 16
    return torch.stack((luma, cb, cr), 1)


def ycc_to_rgb(image: Tensor) -> Tensor:
    """Integer YCbCr (B, 3, H, W) to RGB in 0..255 (jdcolor.c)."""
    luma, cb, cr = image[:, 0], image[:, 1] - 128, image[:, 2] - 128
    half = 1 << 15
    red = luma + ((91881 * cr + half) >> 16)
    green = luma + ((-22554 * cb - 46802 * cr + half) >> 16)
    blue = luma + ((116130 * cb + half) >> 16)
    return torch.stack((red, green, blue), 1).clamp(0, 255)


def _downsampled(plane: Tensor, across: int, down: int) -> Tensor:
    """Box averages whose rounding alternates from column to column (jcsample.c)."""
    if across == 1:
        return plane
    total = plane[..., 0::2] + plane[..., 1::2]
    odd = torch.arange(total.shape[-1], device=plane.device, dtype=torch.int32) % 2
    if down == 1:
        return (total + odd) >> 1
    return (total[:, 0::2] + total[:, 1::2] + 1 + odd) >> 2


def _upsampled(plane: Tensor, across: int, down: int) -> Tensor:
    """Triangle filter, 3/4 of the nearer and 1/4 of the further sample (jdsample.c)."""
    if across == 1:
        return plane
    if down == 1:
        left, right = _neighbours(plane, -1)
        even, odd = (3 * plane + left + 1) >> 2, (3 * plane + right + 2) >> 2
        return _interleaved(even, odd, -1)
    above, below = _neighbours(plane, -2)
    rows = _interleaved(3 * plane + above, 3 * plane + below, -2)
    left, right = _neighbours(rows, -1)
    return _interleaved((3 * rows + left + 8) >> 4, (3 * rows + right + 7) >> 4, -1)


def _neighbours(plane: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The sample before and after each, itself at the ends."""
    length = plane.shape[axis]
    before = torch.cat((plane.narrow(axis, 0, 1), plane.narrow(axis, 0, length - 1)), axis)
    after = torch.cat((plane.narrow(axis, 1, length - 1), plane.narrow(axis, length - 1, 1)), axis)
    return before, after


def _interleaved(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """Samples alternately from two planes (B, H, W)."""
    place = even.dim() + axis
    return torch.stack((even, odd), place + 1).flatten(place, place + 1)


def _through_cells(plane: Tensor, steps: Tensor) -> Tensor:
    """DCT, quantize, dequantize and back: samples (B, H, W) in 0..255 under steps (B, 8, 8)."""
    count, height, width = plane.shape
    blocks = plane.reshape(count, height // 8, 8, width // 8, 8).transpose(2, 3) - 128
    coefficients = _forward(_forward(blocks, rows=True).transpose(-1, -2), rows=False).transpose(-1, -2)
    divisor = 8 * steps[:, None, None]  # the forward transform leaves a factor of 8
    size = torch.div(coefficients.abs() + divisor // 2, divisor, rounding_mode="floor")
    levels = size * coefficients.sign() * steps[:, None, None]
    samples = _inverse(_inverse(levels.transpose(-1, -2), columns=True).transpose(-1, -2), columns=False)
    return (samples + 128).clamp(0, 255).transpose(2, 3).reshape(count, height, width)


def _descale(value: Tensor, bits: int) -> Tensor:
    return (value + (1 << (bits - 1))) >> bits


def _forward(data: Tensor, *, rows: bool) -> Tensor:
    """One pass of the forward DCT along the last axis; the first keeps two more bits."""
    d = data.unbind(-1)
    t0, t1, t2, t3 = (d[i] + d[7 - i] for i in range(4))
    t7, t6, t5, t4 = (d[i] - d[7 - i] for i in range(4))
    t10, t13, t11, t12 = t0 + t3, t0 - t3, t1 + t2, t1 - t2
    if rows:
        o0, o4 = (t10 + t11) << PASS1_BITS, (t10 - t11) << PASS1_BITS
    else:
        o0, o4 = _descale(t10 + t11, PASS1_BITS), _descale(t10 - t11, PASS1_BITS)
    bits = CONST_BITS - PASS1_BITS if rows else CONST_BITS + PASS1_BITS
    z1 = (t12 + t13) * C0_541
    o2, o6 = _descale(z1 + t13 * C0_765, bits), _descale(z1 - t12 * C1_847, bits)
    z1, z2, z3, z4 = t4 + t7, t5 + t6, t4 + t6, t5 + t7
    z5 = (z3 + z4) * C1_175
    z1, z2, z3, z4 = -C0_899 * z1, -C2_562 * z2, -C1_961 * z3 + z5, -C0_390 * z4 + z5
    o7 = _descale(t4 * C0_298 + z1 + z3, bits)
    o5 = _descale(t5 * C2_053 + z2 + z4, bits)
    o3 = _descale(t6 * C3_072 + z2 + z3, bits)
    o1 = _descale(t7 * C1_501 + z1 + z4, bits)
    return torch.stack((o0, o1, o2, o3, o4, o5, o6, o7), -1)


def _inverse(data: Tensor, *, columns: bool) -> Tensor:
    """One pass of the inverse DCT along the last axis; the first keeps two more bits."""
    i = data.unbind(-1)
    z1 = (i[2] + i[6]) * C0_541
    t2, t3 = z1 - i[6] * C1_847, z1 + i[2] * C0_765
    t0, t1 = (i[0] + i[4]) << CONST_BITS, (i[0] - i[4]) << CONST_BITS
    t10, t13, t11, t12 = t0 + t3, t0 - t3, t1 + t2, t1 - t2
    t0, t1, t2, t3 = i[7], i[5], i[3], i[1]
    z1, z2, z3, z4 = t0 + t3, t1 + t2, t0 + t2, t1 + t3
    z5 = (z3 + z4) * C1_175
    z1, z2, z3, z4 = -C0_899 * z1, -C2_562 * z2, -C1_961 * z3 + z5, -C0_390 * z4 + z5
    t0, t1 = t0 * C0_298 + z1 + z3, t1 * C2_053 + z2 + z4
    t2, t3 = t2 * C3_072 + z2 + z3, t3 * C1_501 + z1 + z4
    bits = CONST_BITS - PASS1_BITS if columns else CONST_BITS + PASS1_BITS + 3
    sums = (t10 + t3, t11 + t2, t12 + t1, t13 + t0, t13 - t0, t12 - t1, t11 - t2, t10 - t3)
    return torch.stack([_descale(value, bits) for value in sums], -1)
