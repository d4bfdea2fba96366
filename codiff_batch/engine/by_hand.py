"""A quality given by hand, which the user knows better than CaVE: what the networks are told about it.

The generator listens to CaVE's tokens far more than to tables, so it is told of a quality by tokens: those of this very
picture, compressed at that quality once more. Measured on held-out photos with model ``fast``: where CaVE is wrong,
because a photo was moved off its grid and compressed again at QF 40 or 70, the true quality gains 0.1 to 0.2 dB. Where
CaVE is right it gains nothing, and a quality that is much too low costs up to 0.5 dB by smoothing more.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from codiff_batch.engine.stream import Pixels, Tables
from codiff_batch.jpeg.quantization import ijg_table


def compressed_at(crop: Pixels, qf: float) -> Pixels:
    """A crop (H, W, 3) or (H, W) whose corner lies on the JPEG grid, compressed at a quality factor 1..100."""
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "JPEG", quality=max(1, round(qf)), subsampling="4:2:0")
    with Image.open(buffer) as image:
        return np.asarray(image)


def tables_of(qf: float) -> Tables:
    """The IJG's luma and chroma tables for a quality factor 1..100."""
    return tuple(ijg_table(max(1, round(qf)), chroma=chroma) for chroma in (False, True))
