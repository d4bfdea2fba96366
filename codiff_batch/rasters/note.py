"""The program's note in lossless files, with a digest that tells whether it still belongs to these pixels."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def with_digest(note: str, pixels: NDArray[np.uint8]) -> str:
    """The note, for these pixels."""
    return f"{note} picture={_digest(pixels)}"


def is_of(note: str, pixels: NDArray[np.uint8]) -> bool:
    """Whether the note was written for these pixels: editors keep it when they change a picture."""
    return note.endswith(f" picture={_digest(pixels)}")


def _digest(pixels: NDArray[np.uint8]) -> str:
    # Black and white is stored in one channel by some programs and in three by others.
    rgb = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    return hashlib.sha256(np.ascontiguousarray(rgb).data).hexdigest()[:16]
