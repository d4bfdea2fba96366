"""One machine's share of the photos, for several machines that see the same folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts. No two own the same photo, so the machines need not know of each other."""

    index: int
    """1..count"""
    count: int

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    def owns(self, relative: Path) -> bool:
        """Return True if a photo belongs to this shard.

        A stable hash of the relative path decides rather than the place in a list, so that a folder which grows
        does not move photos from one machine to another.
        """
        digest = hashlib.sha256(os.fsencode(relative)).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Shard:
        """Read ``I/N`` with I from 1 to N, or ``auto`` for a task of a SLURM job array.

        Raises:
            ValueError: it is neither, or there is no job array.
        """
        if text == "auto":
            return cls._of_slurm(environment)
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise ValueError(f"{text!r} is not I/N with I from 1 to N, nor auto")
        return cls(int(index), int(count))

    @classmethod
    def _of_slurm(cls, environment: Mapping[str, str]) -> Shard:
        try:
            task, first, last, step = (
                int(environment.get(f"SLURM_ARRAY_TASK_{name}", default))
                for name, default in (("ID", ""), ("MIN", ""), ("MAX", ""), ("STEP", "1"))
            )
        except ValueError:
            raise ValueError(
                "auto is for SLURM job arrays, and SLURM_ARRAY_TASK_ID, _MIN and _MAX are not set"
            ) from None
        return cls((task - first) // step + 1, (last - first) // step + 1)
