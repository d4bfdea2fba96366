"""What an output format is; each has a file of its own in ``containers``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

from codiff_batch.errors import OptionsConflict, PhotoError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from codiff_batch.rasters.source import Source

Pixels: TypeAlias = "NDArray[np.uint8]"
"""(H, W, 3) RGB or (H, W) gray, orientation as stored."""


@dataclass(frozen=True)
class Order:
    """How an output is to be encoded."""

    note: str
    """One line that starts with ``codiff-batch``."""
    quality: int = 95
    """1..100; its meaning depends on the format."""
    drop_signature: bool = False
    """Leave out a C2PA manifest, which no longer fits the picture."""
    refresh_thumbnail: bool = False
    """Recreate the EXIF thumbnail from the picture, if that is safe."""


@dataclass(frozen=True)
class OutputFormat:
    """One container that restored pictures can be written in."""

    name: str
    """As ``--format`` calls it."""
    title: str
    suffix: str
    """Of the files written, with its dot."""
    quality: str
    """What ``--quality`` means here."""
    encode: Callable[[Pixels, Source, Order], bytes]
    """Raises PhotoError in the same cases as :attr:`refuse`."""
    largest_side: int
    """Pixels."""
    refuse: Callable[[Source, Order], None] = lambda photo, order: None
    """Raises a PhotoError for further reasons not to write a photo in this format."""
    keeps_source_bytes: bool = False
    """Whether all metadata is copied byte for byte."""
    lossless: bool = False
    """Whether the pixels are kept exactly."""
    module: str | None = None
    """The module that must be importable."""
    extra: str | None = None
    """The extra that installs it."""

    @property
    def is_installed(self) -> bool:
        """Return True if the program can write the format here."""
        return self.module is None or find_spec(self.module) is not None

    def check(self) -> None:
        """Refuse a format that cannot be written on this machine.

        Raises:
            OptionsConflict: says what to install.
        """
        if not self.is_installed:
            raise OptionsConflict(f"{self.title} needs another package: pip install 'codiff-batch[{self.extra}]'")


def save(pixels: Pixels, format: OutputFormat, **options: Any) -> bytes:
    """Encode with Pillow.

    Raises:
        PhotoError: the encoder failed.
    """
    from PIL import Image

    buffer = BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, format.name.upper(), **options)
    except (OSError, ValueError) as error:
        raise PhotoError(f"cannot be written as {format.title}: {error}") from error
    return buffer.getvalue()
