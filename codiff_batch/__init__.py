"""codiff-batch: gives people their photos back from heavy JPEG compression.

The public API is imported on first use, so that ``import codiff_batch`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codiff_batch.errors import CodiffError

if TYPE_CHECKING:
    from codiff_batch.batch.options import BatchOptions
    from codiff_batch.batch.run import run
    from codiff_batch.engine.photo import restore_photo
    from codiff_batch.engine.restorer import Restorer
    from codiff_batch.jpeg import JpegPhoto

__version__ = "0.1.0"

__all__ = ["BatchOptions", "CodiffError", "JpegPhoto", "Restorer", "__version__", "restore_photo", "run"]

_HOMES = {
    "BatchOptions": "codiff_batch.batch.options",
    "JpegPhoto": "codiff_batch.jpeg",
    "Restorer": "codiff_batch.engine",
    "restore_photo": "codiff_batch.engine",
    "run": "codiff_batch.batch.run",
}
"""Where each public name is."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
