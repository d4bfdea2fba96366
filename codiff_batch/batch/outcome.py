"""What became of one photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["restored", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """One record of the report."""

    source: Path
    output: Path | None
    """The file that was written; None if none was."""
    outcome: Kind
    reason: str
    header_qf: float | None = None
    """Quality factor that fits the file's tables best, 1..100."""
    estimated_qf: float | None = None
    """CaVE's estimate from the pixels, 0..100; None where it was not needed."""
    width: int | None = None
    height: int | None = None
    model: str | None = None
    seconds: float = 0.0

    @property
    def megapixels(self) -> float:
        """Size of the photo; 0 if its header could not be read."""
        return (self.width or 0) * (self.height or 0) / 1e6
