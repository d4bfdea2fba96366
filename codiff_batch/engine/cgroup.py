"""How much memory the control groups leave to this process (Linux, version 2): in containers, and under systemd.

See ``Documentation/admin-guide/cgroup-v2.rst`` in Linux's source.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


class Limit(NamedTuple):
    """Of one group, in bytes."""

    total: int
    used: int
    """Without files that the system would forget to make room."""

    @property
    def free(self) -> int:
        """What is left."""
        return max(0, self.total - self.used)


def limits(groups: Path = GROUPS, own: Path = OWN) -> Iterator[Limit]:
    """The limits of this process's group and of those it lies in; nothing where there are none.

    Args:
        groups: where the system shows its groups.
        own: where it says which one is this process's.
    """
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("0::/"):
            group = groups / line[4:]
            for folder in (group, *group.parents):
                if folder.is_relative_to(groups) and (limit := _limit(folder)):
                    yield limit


def _limit(folder: Path) -> Limit | None:
    """A group's limit; None if it has none, which says "max", or cannot be read."""
    try:
        total, used = (int((folder / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        told = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return Limit(total, used - int(told["inactive_file"]))
    except (OSError, ValueError, KeyError):
        return None
