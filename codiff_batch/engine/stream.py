"""Requests to restore pictures, and their results: plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codiff_batch.settings import Settings

if TYPE_CHECKING:
    from codiff_batch.jpeg import JpegPhoto

Pixels: TypeAlias = NDArray[np.uint8]
Levels: TypeAlias = NDArray[np.float32]
Tables: TypeAlias = Sequence[NDArray[np.uint16]]
Progress: TypeAlias = Callable[[int, int], None]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Of red, green and blue (JFIF)."""


class Kept(Protocol):
    """Restored levels that a backend keeps on its device, which settles them faster; ``np.asarray`` fetches them."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """float32 in [0, 255], of the picture's shape."""

    def make_neutral(self) -> None:
        """Turn levels (H, W, 3) into their luma, in place."""

    def in_8_bits(self) -> Pixels:
        """Round them."""

    def in_cells(self, photo: JpegPhoto, pixels: Pixels) -> Pixels:
        """Project them onto a photo's cells, as :func:`~codiff_batch.jpeg.project_to_cells` does."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """What CaVE sees in a picture."""

    tokens: Sequence[Any]
    """The compression embedding: (1, K, D) for each crop, in the backend's own type, on the model's device."""
    qf: float
    """Estimated quality factor, 0..100: the mean over crops."""
    spread: float = 0.0
    """Standard deviation of the estimate over crops."""


@dataclass(frozen=True, eq=False)
class Request:
    """One picture to restore; see :meth:`~codiff_batch.engine.restorer.Restorer.restore` for the fields."""

    pixels: Pixels
    embedding: Embedding | None = None
    """From :meth:`~codiff_batch.engine.restorer.Restorer.embed`, if the caller already has it."""
    settings: Settings = field(default_factory=Settings)
    tables: Tables | None = None
    progress: Progress | None = None
    key: Any = None
    """Returned with the result."""


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a request: levels, or the error of this one picture."""

    request: Request
    levels: Levels | Kept | None = None
    """float32 in [0, 255], of the picture's shape; on the device that restored it if it can be settled there."""
    error: Exception | None = None
