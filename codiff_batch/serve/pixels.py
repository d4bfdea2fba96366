"""Pictures as hosts have them: raw values in a file, with or without alpha, at 8 bits or more."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codiff_batch.errors import RequestRefused
from codiff_batch.files.opening import open_regular
from codiff_batch.jpeg.photo import DEFAULT_MAX_PIXELS

TYPES: dict[str, tuple[np.dtype[Any], float]] = {
    "u8": (np.dtype(np.uint8), 1.0),
    "u16": (np.dtype(np.uint16), 257.0),
    "float": (np.dtype(np.float32), 1 / 255),
}
"""Sample types by name: dtype, in the machine's byte order, and the size of one of 256 levels."""


@dataclass(frozen=True)
class HostPicture:
    """A host's pixels: (H, W, C) with C of 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha)."""

    values: NDArray[Any]
    level: float
    """Size of one of 256 levels in these values."""

    @property
    def colours(self) -> int:
        """Channels without alpha, 1 or 3."""
        return 1 if self.values.shape[2] < 3 else 3

    @property
    def eight_bits(self) -> NDArray[np.uint8]:
        """What the networks see: uint8 (H, W) or (H, W, 3), rounded and clipped."""
        colour = self.values[..., : self.colours]
        if colour.dtype != np.uint8:
            levels = np.nan_to_num(colour.astype(np.float32) / np.float32(self.level))
            colour = np.rint(levels).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(colour if self.colours == 3 else colour[..., 0])

    def changed(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[Any]:
        """These values with the change from ``before`` to ``after`` added, both in levels 0..255.

        What is finer than a level or brighter than white stays, and so does alpha; without a change nothing changes.
        """
        change = (after.astype(np.float32) - before) * np.float32(self.level)
        values = self.values.copy()
        colour = values[..., : self.colours].astype(np.float32) + change.reshape(*values.shape[:2], self.colours)
        if values.dtype != np.float32:
            colour = np.rint(colour).clip(0, np.iinfo(values.dtype).max)
        values[..., : self.colours] = colour.astype(values.dtype)
        return values

    def region(self, rows: slice, columns: slice) -> HostPicture:
        """A part of the picture."""
        return HostPicture(self.values[rows, columns], self.level)


def read_picture(told: Mapping[str, Any]) -> HostPicture:
    """Read a picture from its file, as a request tells: file, width, height, channels, type.

    Raises:
        RequestRefused: the file is not such a picture; nothing larger than it is ever read.
    """
    try:
        dtype, level = TYPES[told["type"]]
        height, width, channels = shape = (int(told["height"]), int(told["width"]), int(told["channels"]))
        path = Path(told["file"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RequestRefused(f"'picture' is incomplete or invalid: {error}") from error
    if min(height, width) < 1 or channels not in (1, 2, 3, 4) or height * width > DEFAULT_MAX_PIXELS:
        raise RequestRefused(f"a picture of {width}x{height} with {channels} channels cannot be read")
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != height * width * channels * dtype.itemsize:
                words = (
                    f"{size // dtype.itemsize} values are not a picture of {width}x{height} with {channels} channels"
                )
                raise RequestRefused(words)
            values = np.fromfile(file, dtype, count=height * width * channels)
    except OSError as error:
        raise RequestRefused(f"{path}: {error.strerror or error}") from error
    if values.size != height * width * channels:
        raise RequestRefused(f"{path} was truncated while it was read")
    return HostPicture(values.reshape(shape), level)


def write_picture(path: Path, values: NDArray[Any]) -> None:
    """Write a picture's values into a regular file, without ever blocking.

    Raises:
        RequestRefused: it cannot be written, or is a link, a pipe or a device.
    """
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(handle, "wb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise RequestRefused(f"{path} is not a regular file")
            file.truncate()
            values.tofile(file)
    except (OSError, ValueError) as error:
        raise RequestRefused(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def identity(told: Mapping[str, Any]) -> tuple[object, ...]:
    """Identifies a picture's file and its content: changes when the file is written again.

    Raises:
        RequestRefused: there is no such file.
    """
    try:
        status = Path(told["file"]).stat()
    except (KeyError, TypeError, ValueError) as error:
        raise RequestRefused(f"'picture' is incomplete or invalid: {error}") from error
    except OSError as error:
        raise RequestRefused(f"{told['file']}: {error.strerror}") from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, str(sorted(told.items()))
