"""Whether an output folder is still there, was moved away or deleted, or is on an unplugged disk."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from codiff_batch.batch.journal import folder_of
from codiff_batch.batch.marks import read_mark

State = Literal["there", "gone", "elsewhere", "back"]


class Home:
    """Knows whether an output folder is still the one whose journal is open."""

    def __init__(self, journal: Path) -> None:
        """Remember a journal that is there now."""
        self._journal = journal
        found = journal.stat()
        self._device, self._inode = found.st_dev, found.st_ino
        self._mark = read_mark(folder_of(journal))

    def state(self) -> State:
        """Look.

        Returns:
            ``there``; ``gone`` if the folder was moved away or deleted, so that another may be made in its place;
            ``elsewhere`` if its disk is not mounted, so that what is written now would land on another one; or
            ``back`` if it is mounted again, as another device: what is open leads to the one that went.
        """
        try:
            found = self._journal.stat()
            if (found.st_dev, found.st_ino) == (self._device, self._inode):
                return "there"
        except OSError:
            pass
        if _device_of(self._journal) == self._device:
            return "gone"
        back = self._mark is not None and self._journal.exists() and read_mark(folder_of(self._journal)) == self._mark
        return "back" if back else "elsewhere"


def _device_of(path: Path) -> int | None:
    """The file system that a path would be made on."""
    for folder in path.absolute().parents:
        try:
            return folder.stat().st_dev
        except OSError:
            continue
    return None
