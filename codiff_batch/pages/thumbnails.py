"""Small pictures for a page, and how much a photo was changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIDE = 320
"""Longest side of a thumbnail, in pixels."""
COMPARED = 1024
"""Photos are compared at about this size or more, which a JPEG decoder reaches without decoding in full."""


@dataclass(frozen=True)
class Thumbnails:
    """What was made for one photo."""

    before: str | None
    """Name of the thumbnail's file in the folder."""
    after: str | None
    change: float | None
    """Mean difference between before and after in levels, at reduced size."""


def make_thumbnails(folder: Path, name: str, before: Path | None, after: Path | None) -> Thumbnails:
    """Write the thumbnails of a photo; what cannot be read gets none.

    Args:
        folder: where to write.
        name: how their names begin.
        before, after: the photo's files, where there are any.
    """
    small = [(kind, _reduced(path)) for kind, path in (("before", before), ("after", after)) if path is not None]
    names: dict[str, str] = {}
    for kind, picture in small:
        if picture is not None:
            names[kind] = f"{name}-{kind}.jpg"
            shown = ImageOps.exif_transpose(picture)
            shown.thumbnail((SIDE, SIDE))
            shown.save(folder / names[kind], "JPEG", quality=85)
    pictures = [picture.convert("RGB") for _, picture in small if picture is not None]
    change = None
    if len(pictures) == 2 and pictures[0].size == pictures[1].size:
        first, second = (np.asarray(picture, np.int16) for picture in pictures)
        change = round(float(np.abs(first - second).mean()), 2)
    return Thumbnails(names.get("before"), names.get("after"), change)


def _reduced(path: Path) -> Image.Image | None:
    """A picture at the smallest of the decoder's sizes that is enough to compare, not turned."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (COMPARED, COMPARED))
            return image.copy() if image.mode in ("L", "RGB") else image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
