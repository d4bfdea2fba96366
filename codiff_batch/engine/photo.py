"""Restoring one JPEG: pixels through the network, then back inside the file's quantization cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codiff_batch.engine.judge import was_saved_again
from codiff_batch.engine.restorer import Progress, Restorer
from codiff_batch.jpeg import JpegPhoto, can_project, project_to_cells


def restore_photo(
    photo: JpegPhoto,
    restorer: Restorer,
    *,
    strength: float = 1.0,
    constrain: bool = True,
    pixels: NDArray[np.uint8] | None = None,
    estimated_qf: float | None = None,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """Restore one JPEG photo; every front door goes through here.

    Args:
        photo: the source.
        strength: 0 gives the source, 1 the restoration, between them a blend.
        constrain: keep every DCT coefficient inside the cell that the source recorded, so that the result is
            a picture which the source's encoder would have turned into the very same JPEG. Files that were saved
            again after a harder compression are left as restored, because the truth is not in their cells, and
            so are those that cannot be modelled (see :func:`~codiff_batch.jpeg.can_project`).
        pixels: the photo's decoded pixels, if the caller has them already.
        estimated_qf: CaVE's estimate from these pixels, if the caller has it already.
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
    if not (constrain and _cells_hold_the_truth(photo, restorer, pixels, estimated_qf)):
        return restorer.restore(pixels, strength=strength, tables=tables, progress=progress)
    levels = restorer.restore_levels(pixels, strength=strength, tables=tables, progress=progress)
    return project_to_cells(levels, photo)


def _cells_hold_the_truth(
    photo: JpegPhoto, restorer: Restorer, pixels: NDArray[np.uint8], estimated_qf: float | None
) -> bool:
    if not can_project(photo):
        return False
    estimated_qf = restorer.estimate_qf(pixels) if estimated_qf is None else estimated_qf
    return not was_saved_again(photo.header.qf, estimated_qf)
