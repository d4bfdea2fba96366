"""codiff-batch: gives people their photos back from heavy JPEG compression.

The public API is imported on first use, so that ``import codiff_batch`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codiff_batch.errors import CodiffError

if TYPE_CHECKING:
    from codiff_batch.engine.photo import restore_photo
    from codiff_batch.engine.restorer import Restorer
    from codiff_batch.jpeg import JpegPhoto

__version__ = "0.1.0"

__all__ = ["CodiffError", "JpegPhoto", "Restorer", "__version__", "restore_photo"]


def __getattr__(name: str) -> object:
    if name == "JpegPhoto":
        from codiff_batch.jpeg import JpegPhoto

        return JpegPhoto
    if name in ("Restorer", "restore_photo"):
        from codiff_batch import engine

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
