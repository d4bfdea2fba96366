"""Restoring one JPEG: pixels through the network, then back inside the file's quantization cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codiff_batch.engine.judge import was_saved_again
from codiff_batch.engine.restorer import Restorer
from codiff_batch.engine.stream import Embedding, Levels, Progress
from codiff_batch.jpeg import JpegPhoto, can_project, project_to_cells


def restore_photo(
    photo: JpegPhoto,
    restorer: Restorer,
    *,
    strength: float = 1.0,
    texture: float = 1.0,
    constrain: bool = True,
    pixels: NDArray[np.uint8] | None = None,
    embedding: Embedding | None = None,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """Restore one JPEG photo: the restorer's work, then :func:`settle`.

    Args:
        photo: the source.
        strength: 0 gives the source, 1 the restoration, between them a blend.
        texture: how much of a model's texture to add, 0..1; nothing to models without.
        constrain: see :func:`settle`.
        pixels: the photo's decoded pixels, if the caller has them already.
        embedding: what CaVE sees in these pixels, if the caller has it already.
        progress: called with (tiles done, tiles in all); what it raises ends the work.

    Returns:
        uint8 of the photo's shape, (H, W, 3) RGB or (H, W) gray, Orientation not applied.

    Raises:
        PhotoError: the photo cannot be decoded or restored.
    """
    if pixels is None:
        pixels = photo.pixels()
    if strength == 0:
        return pixels
    embedding = embedding or restorer.embed(pixels)
    levels = restorer.restore_levels(
        pixels,
        strength=strength,
        texture=texture,
        tables=photo.header.tables,
        progress=progress,
        embedding=embedding,
    )
    return settle(levels, photo, embedding.qf, constrain=constrain)


def settle(levels: Levels, photo: JpegPhoto, estimated_qf: float, *, constrain: bool = True) -> NDArray[np.uint8]:
    """Turn restored levels into the final 8-bit picture; no network takes part.

    Args:
        levels: float32 in [0, 255] of the photo's shape; may be overwritten.
        photo: the source.
        estimated_qf: CaVE's estimate from the source's pixels, 0..100.
        constrain: keep every DCT coefficient inside the cell that the source recorded, so that the result is
            a picture which the source's encoder would have turned into the very same JPEG. Files that were saved
            again after a harder compression are left as restored, because the truth is not in their cells, and
            so are those that cannot be modelled (see :func:`~codiff_batch.jpeg.can_project`).

    Raises:
        DamagedJpeg: the photo's coefficients cannot be read.
    """
    if constrain and can_project(photo) and not was_saved_again(photo.header.qf, estimated_qf):
        return project_to_cells(levels, photo)
    return np.rint(levels, out=levels).astype(np.uint8)
