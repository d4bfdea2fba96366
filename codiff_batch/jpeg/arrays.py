"""What the projection computes with: numpy here, another library's arrays where the picture is kept.

Both know the same operators and methods; only what they spell differently is in :class:`Arrays`. So there is one
projection, and a picture on a GPU need not come down for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SMALL_PRODUCT = 1 << 18
"""Multiplications up to which OpenBLAS works in the calling thread (``interface/gemm.c``)."""


class Arrays(Protocol):
    """A library's arrays in one place."""

    @property
    def pixels_at_a_time(self) -> int:
        """About how many pixels to work on at a time."""

    def put(self, array: NDArray[Any]) -> Any:
        """Bring an array there."""

    def numbers(self, count: int) -> Any:
        """0, 1, 2 and so on."""

    def empty(self, shape: Sequence[int]) -> Any:
        """Room for uint8."""

    def permuted(self, array: Any, axes: Sequence[int]) -> Any:
        """A view with the axes in this order."""

    def product(self, rows: Any, matrix: Any) -> Any:
        """``rows @ matrix`` in 32-bit floats."""


class Numpy:
    """numpy's own arrays."""

    pixels_at_a_time = 1 << 17
    """In whole rows of MCUs, so that everything stays in the cache."""

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array itself."""
        return array

    def numbers(self, count: int) -> NDArray[np.intp]:
        """0, 1, 2 and so on."""
        return np.arange(count)

    def empty(self, shape: Sequence[int]) -> NDArray[np.uint8]:
        """Room for uint8."""
        return np.empty(shape, np.uint8)

    def permuted(self, array: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
        """A view with the axes in this order."""
        return array.transpose(axes)

    def product(self, rows: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """``rows @ matrix`` in parts so small that OpenBLAS leaves its threads asleep.

        Photos are worked on in threads already, and to wake others for microseconds costs ten times what it saves.
        """
        many, part = len(rows), max(1, SMALL_PRODUCT // matrix.size)
        whole = many - many % part
        result = np.empty((many, matrix.shape[1]), np.float32)
        parts = rows[:whole].reshape(-1, part, len(matrix))
        np.matmul(parts, matrix, out=result[:whole].reshape(-1, part, matrix.shape[1]))
        np.matmul(rows[whole:], matrix, out=result[whole:])
        return result


NUMPY = Numpy()
