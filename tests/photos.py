"""Makes small real JPEG files for tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def scene(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """A picture with smooth ground, texture and edges."""
    rng = np.random.default_rng(seed)
    ground = Image.fromarray(rng.integers(0, 255, (4, 6, 3)).astype(np.uint8))
    pixels = np.asarray(ground.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    pixels += 12 * rng.standard_normal((height, width, 1))
    pixels[height // 4 : height // 2, width // 3 : width // 2] = rng.integers(0, 255, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def jpeg(quality: int = 20, *, image: Image.Image | None = None, **options: object) -> bytes:
    """A JPEG file of :func:`scene`."""
    buffer = io.BytesIO()
    (image or scene()).save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
