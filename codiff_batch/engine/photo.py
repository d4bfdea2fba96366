"""Restoring one JPEG: pixels through the network, then back inside the file's quantization cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codiff_batch.engine.restorer import Progress, Restorer
from codiff_batch.jpeg import JpegPhoto, can_project, project_to_cells


def restore_photo(
    photo: JpegPhoto,
    restorer: Restorer,
    *,
    strength: float = 1.0,
    constrain: bool = True,
    pixels: NDArray[np.uint8] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """Restore one JPEG photo; every front door goes through here.

    Args:
        photo: the source.
        strength: 0 gives the source, 1 the restoration, between them a blend.
        constrain: keep every DCT coefficient inside the cell that the source recorded, so that the result is
            a picture which the source's encoder would have turned into the very same JPEG. Files of a
            geometry that cannot be modelled (see :func:`~codiff_batch.jpeg.can_project`) are left as restored.
        pixels: the photo's decoded pixels, if the caller has them already.
        progress: called with (tiles done, tiles in all).

    Returns:
        uint8 of the photo's shape, (H, W, 3) RGB or (H, W) gray, Orientation not applied.

    Raises:
        PhotoError: the photo cannot be decoded or restored.
    """
    if pixels is None:
        pixels = photo.pixels()
    if strength == 0:
        return pixels
    tables = photo.header.tables
    if not (constrain and can_project(photo)):
        return restorer.restore(pixels, strength=strength, tables=tables, progress=progress)
    levels = restorer.restore_levels(pixels, strength=strength, tables=tables, progress=progress)
    return project_to_cells(levels, photo)
