"""What happened to one photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from codiff_batch.errors import PhotoError

SHOWN_FAILURES = 10
"""Failures that a summary lists one by one."""


class Kind(StrEnum):
    """What was done with a photo, or would be."""

    RESTORED = "restored"
    WOULD_BE_RESTORED = "would be restored"
    SKIPPED = "skipped"
    FAILED = "failed"
    PUT_BACK = "put back"
    WOULD_BE_PUT_BACK = "would be put back"


class Step(StrEnum):
    """What a photo's time goes to. Several photos are under way at a time: together they take less than the sum."""

    READ = "read"
    """The file's bytes, its structure, and what the journal knows of it."""
    DECODE = "decode"
    """Its pixels, and the choice of what CaVE looks at."""
    JUDGE = "judge"
    """CaVE's look and the verdict; a share of it where CaVE looks at several photos at once."""
    RESTORE = "restore"
    """On the device, from the moment it is queued: the wait for other photos is included."""
    SETTLE = "settle"
    """Kept inside the quantization cells, and rounded."""
    ENCODE = "encode"
    WRITE = "write"


class Code(StrEnum):
    """Stable names of reasons, for programs.

    Where the judge decided they are those of :class:`~codiff_batch.engine.judge.Ground`; failures have their error's
    class name in the same style.
    """

    FINISHED_LATER = "finished-later"
    RESTORED_BEFORE = "restored-before"
    DONE_BEFORE = "done-before"
    SIGNED = "signed"
    OUTPUT_EXISTS_ALREADY = "output-exists-already"
    FROM_BACKUP = "from-backup"
    ORIGINAL_ALREADY = "original-already"


def words(code: str) -> str:
    """A reason code for people: ``good-already`` is "good already"."""
    return code.replace("-", " ")


def code_of(error: BaseException) -> str:
    """The reason code of a failure: its class in lower case with hyphens, such as ``damaged-jpeg``."""
    name = "unexpected" if not isinstance(error, PhotoError) else type(error).__name__
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


@dataclass(frozen=True)
class Outcome:
    """One record of the report."""

    source: Path
    output: Path | None
    """The file that was written; None if none was."""
    outcome: Kind
    reason: str
    """A sentence for people."""
    code: str = ""
    """A stable name of the reason: a :class:`Code`, a ``Ground``, or :func:`code_of` an error."""
    header_qf: float | None = None
    """Quality factor that fits the file's tables best, 1..100."""
    estimated_qf: float | None = None
    """CaVE's estimate from the pixels, 0..100; None where it was not needed."""
    width: int | None = None
    height: int | None = None
    model: str | None = None
    seconds: float = 0.0
    """From reading to the end, waits included."""
    steps: Mapping[str, float] = field(default_factory=dict)
    """Seconds by :class:`Step`, of the steps that were taken."""

    @property
    def megapixels(self) -> float:
        """Size of the photo; 0 if its header could not be read."""
        return (self.width or 0) * (self.height or 0) / 1e6
