"""What a batch is asked to do; the same for every front door that works on files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codiff_batch.errors import OptionsConflict
from codiff_batch.models.catalogue import DEFAULT_MODEL

Format = Literal["same", "jpeg", "png", "webp", "tiff"]

DEFAULT_MAX_PIXELS = 200_000_000


@dataclass(frozen=True)
class BatchOptions:
    """Options of one run, named as on the command line."""

    paths: tuple[Path, ...]
    """Files and folders, as the user gave them."""
    output: Path | None = None
    """Output folder; None for a sibling ``<name>-restored`` of each folder."""
    min_qf: float = 60
    """Photos of at least this quality factor are skipped, 0..100."""
    model: str = DEFAULT_MODEL
    models_dir: Path | None = None
    device: str = "auto"
    format: Format = "same"
    quality: int = 95
    """Of JPEG and WebP outputs, 1..100."""
    strength: float = 1.0
    constrain: bool = True
    copy_skipped: bool = False
    overwrite: bool = False
    in_place: bool = False
    backup: Path | None = None
    """Where untouched originals go before a file is replaced in place."""
    include_signed: bool = False
    """Restore C2PA-signed photos too; their manifest is dropped."""
    dry_run: bool = False
    jobs: int = 2
    max_pixels: int = DEFAULT_MAX_PIXELS

    def check(self) -> None:
        """Refuse options that cannot be meant together.

        Raises:
            OptionsConflict: with the reason.
        """
        if self.in_place and self.backup is None:
            raise OptionsConflict("--in-place needs --backup DIR, where the untouched originals are kept")
        if self.backup is not None and not self.in_place:
            raise OptionsConflict("--backup only makes sense with --in-place")
        if self.in_place and self.output is not None:
            raise OptionsConflict("--in-place and --output exclude each other")
        if self.in_place and self.format not in ("same", "jpeg"):
            raise OptionsConflict("--in-place keeps the JPEG format; --format must be same or jpeg")
        if self.in_place and self.copy_skipped:
            raise OptionsConflict("--copy-skipped has no meaning with --in-place: skipped photos stay where they are")
