"""The last step: restored levels become the final picture, inside its file's quantization cells if possible.

Only this module has pictures projected, here or on the device that restored them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from codiff_batch.engine.crops import textured_crops
from codiff_batch.engine.judge import Verdict, was_saved_again
from codiff_batch.engine.region import Region
from codiff_batch.engine.stream import LUMA, Kept, Levels, Pixels
from codiff_batch.errors import PhotoError
from codiff_batch.jpeg import can_project, project_to_cells
from codiff_batch.jpeg.history import History, look_back
from codiff_batch.jpeg.pillow_pixels import STRIP, PillowPixels
from codiff_batch.settings import Settings

if TYPE_CHECKING:
    from codiff_batch.engine.photo import Judged
    from codiff_batch.jpeg import JpegPhoto


class Settled(Enum):
    """How a picture was settled: a stable code, and whether it lies inside its file's quantization cells."""

    CONSTRAINED = ("constrained", "inside its file's cells")
    UNCHANGED = ("unchanged", "strength 0 changes nothing")
    NOT_ASKED = ("not-asked", "not kept inside its file's cells, as requested")
    NO_FILE = ("no-file", "from the pixels alone")
    BY_HAND = ("by-hand", "by the quality given by hand, regardless of its file")
    SAVED_AGAIN = ("saved-again", "not inside its file's cells: an earlier compression did the harm")
    NOT_MODELLED = ("not-modelled", "not inside its file's cells, which cannot be modelled")

    def __init__(self, code: str, words: str) -> None:
        self.code, self.words = code, words


@dataclass(frozen=True, eq=False)
class Restored:
    """The final picture, and how it was settled."""

    levels: Levels | Pixels | Kept
    """Of the picture, or of the region that was asked for, in [0, 255]; whole numbers if constrained."""
    settled: Settled
    verdict: Verdict

    @property
    def pixels(self) -> Pixels:
        """The picture in 8 bits: uint8 (H, W, 3) RGB or (H, W) gray."""
        return in_8_bits(self.levels) if isinstance(self.levels, np.ndarray) else self.levels.in_8_bits()

    @property
    def constrained(self) -> bool:
        """Return True if the source's encoder would have turned the picture into the very same JPEG."""
        return self.settled is Settled.CONSTRAINED

    @property
    def reason(self) -> str:
        """Why it is constrained or not, in a few words."""
        return self.settled.words


def settled(judged: Judged, levels: Levels | Kept, settings: Settings, region: Region | None = None) -> Restored:
    """Turn restored levels into the final picture, without any network.

    Every DCT coefficient is kept inside the cell that the source recorded, so that the result is a picture that the
    source's encoder would have turned into the very same JPEG. Files that were saved again after a harder compression
    are left as restored, because the truth is not in their cells, and so are those that cannot be modelled (see
    :func:`~codiff_batch.jpeg.can_project`).

    Args:
        judged: the source.
        levels: float32 in [0, 255] of the request's shape; may be overwritten.
        settings: as for the request.
        region: as for the request.
    """
    decoded = judged.decoded
    pixels, photo = decoded.pixels, decoded.photo
    how = _how(photo, judged.embedding.qf, lambda: judged.decoded.history, settings)
    if how is Settled.UNCHANGED:
        return Restored(pixels[decoded.inside if region is None else region.place], how, judged.verdict)
    if not isinstance(levels, np.ndarray):
        if region is None and decoded.margin == (0, 0):
            return _settled_there(judged, levels, how)
        levels = np.asarray(levels)
    if decoded.is_neutral:
        make_neutral(levels)
    if photo is None or how is not Settled.CONSTRAINED:
        return Restored(levels[decoded.inside if region is None else region.inner], how, judged.verdict)
    whole = levels
    if region is not None:
        whole = pixels.astype(np.float32)
        whole[region.window] = levels
    try:
        projected = project_to_cells(whole, photo, pixels)
    except PhotoError:
        # Damaged, or decoded differently: then its cells are not what we think.
        return Restored(levels if region is None else levels[region.inner], Settled.NOT_MODELLED, judged.verdict)
    return Restored(projected if region is None else projected[region.place], how, judged.verdict)


def _settled_there(judged: Judged, levels: Kept, how: Settled) -> Restored:
    """Like :func:`settled`, on the device that restored the whole picture."""
    decoded = judged.decoded
    if decoded.is_neutral:
        levels.make_neutral()
    if decoded.photo is not None and how is Settled.CONSTRAINED:
        try:
            return Restored(levels.in_cells(decoded.photo, decoded.pixels), how, judged.verdict)
        except PhotoError:
            how = Settled.NOT_MODELLED
    return Restored(levels, how, judged.verdict)


def settle(levels: Levels, photo: JpegPhoto, estimated_qf: float, *, constrain: bool = True) -> Pixels:
    """Like :func:`settled`, for levels that were made from a photo in some other way.

    Args:
        levels: float32 in [0, 255] of the photo's shape; may be overwritten.
        photo: the source.
        estimated_qf: CaVE's estimate from the source's pixels, 0..100.
        constrain: whether to keep the picture inside the photo's cells, if possible.

    Raises:
        DamagedJpeg: the photo's coefficients cannot be read.
    """

    def history() -> History:
        pixels = photo.decode()
        return look_back(textured_crops(pixels), pixels, photo.header.tables)

    how = _how(photo, estimated_qf, history, Settings(constrain=constrain))
    return project_to_cells(levels, photo) if how is Settled.CONSTRAINED else in_8_bits(levels)


def in_8_bits(levels: Levels | Pixels) -> Pixels:
    """Round levels to 8 bits, without a float copy."""
    return np.rint(levels, out=np.empty(levels.shape, np.uint8), casting="unsafe")


def _how(photo: JpegPhoto | None, estimated_qf: float, history: Callable[[], History], settings: Settings) -> Settled:
    """Decide whether a picture is kept inside its file's cells, and why not."""
    if settings.strength == 0:
        return Settled.UNCHANGED
    if photo is None:
        return Settled.NO_FILE
    if settings.qf is not None:
        return Settled.BY_HAND
    if not settings.constrain:
        return Settled.NOT_ASKED
    if not can_project(photo):
        return Settled.NOT_MODELLED
    again = was_saved_again(photo.header.qf, estimated_qf, history())
    return Settled.SAVED_AGAIN if again else Settled.CONSTRAINED


def is_neutral(pixels: Pixels | PillowPixels) -> bool:
    """Return True if a picture is black and white in three channels."""
    if len(pixels.shape) == 2:
        return False
    strips = (pixels[top : top + STRIP, :] for top in range(0, pixels.shape[0], STRIP))
    return all((strip == strip[..., :1]).all() for strip in strips)  # One colour ends the search.


def make_neutral(levels: Levels) -> None:
    """Turn levels (H, W, 3) into their luma (JFIF), in place: networks that saw colours leave a faint tint."""
    levels[...] = (levels @ LUMA)[..., None]
