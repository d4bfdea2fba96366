"""The journals of one run, one for each output folder, with a lock that keeps a second run out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from codiff_batch.batch.journal import FOLDER, Journal
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outputs import sweep
from codiff_batch.batch.plan import Task
from codiff_batch.errors import FolderLocked, FolderUnavailable
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import find

log = logging.getLogger(__name__)


def journal_path(root: Path, owner: str) -> Path:
    """Where the journal of an output folder lies."""
    return root / FOLDER / f"journal-{owner}.sqlite"


def model_id(options: BatchOptions) -> str:
    """Name of the model with a digest of its weights.

    Raises:
        ModelError: there is no such model.
    """
    card = read_card(find(options.model, options.models_dir))
    return f"{card.name}@{card.digest}"


class Journals:
    """Opens a journal for every output folder of a run; a context manager that closes and unlocks them.

    The lock is the operating system's own and ends with the process, however that ends.
    """

    def __init__(self, options: BatchOptions, roots: Iterable[Path], photos: int | None = None) -> None:
        """Lock the folders, sweep what a killed run left beside the journals, and open them.

        Args:
            options: of the run.
            roots: output or backup folders.
            photos: how many are planned; None if that is not known.

        Raises:
            FolderLocked: another run is at work in one of the folders.
            FolderUnavailable: a folder cannot be written to.
            ModelError: there is no such model.
        """
        self.model, self.options = model_id(options), options.digest()
        self._owner = options.owner
        self._of: dict[Path, Journal] = {}
        self._exit = contextlib.ExitStack()
        with self._exit:
            for root in sorted(set(roots)):
                self._lock(root)
                journal = self._open(root)
                journal.begin(self.model, photos)
                self._exit.callback(journal.end)
            self._exit = self._exit.pop_all()

    @classmethod
    def join(cls, options: BatchOptions, roots: Iterable[Path]) -> Journals:
        """Open the journals of a run that another process has locked and begun."""
        journals = cls(options, ())
        for root in sorted(set(roots)):
            journals._open(root).join()
        return journals

    def of(self, task: Task) -> Journal:
        """The journal that a photo's entry belongs to."""
        return self._of[task.root]

    def at(self, root: Path) -> Journal:
        """The journal of an output or backup folder."""
        return self._of[root]

    def sweep(self, tasks: Sequence[Task]) -> None:
        """Remove temporary files that a killed run left where these tasks will write."""
        places = [p for task in tasks for p in (task.target, task.copy, task.backup) if p is not None]
        if swept := sweep({place.parent for place in places}, self._owner):
            log.info("removed %d temporary files of a run that was killed", swept)

    def __enter__(self) -> Journals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit.close()

    def _open(self, root: Path) -> Journal:
        journal = Journal(journal_path(root, self._owner))
        self._exit.callback(journal.close)
        self._of[root] = journal
        return journal

    def _lock(self, root: Path) -> None:
        path = root / FOLDER / f"lock-{self._owner}"
        lock = FileLock(path, blocking=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise FolderLocked(f"another run of codiff-batch is at work in {root}; wait for it or stop it") from None
        except OSError as error:
            raise FolderUnavailable(f"cannot write to {root}: {error.strerror or error}") from error
        self._exit.callback(lock.release)
