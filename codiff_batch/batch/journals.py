"""The journals of one run, one for each output folder, with a lock that keeps a second run out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from codiff_batch import __version__
from codiff_batch.batch.journal import Journal, journal_path, journals_in
from codiff_batch.batch.ledger import Ledger, read_journal
from codiff_batch.batch.marks import Holds, Mark, check_present, claim, read_mark, tried
from codiff_batch.batch.migration import old_digest
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outputs import sweep
from codiff_batch.batch.overlaps import refuse_same_folder
from codiff_batch.batch.plan import Task
from codiff_batch.batch.rows import Attempt, Made, Standing
from codiff_batch.engine.judge import RULE
from codiff_batch.errors import CannotRecord, FolderLocked, FolderUnavailable, Role
from codiff_batch.files.atomic import make_folders
from codiff_batch.files.identity import MARK_FOLDER, canonical, real
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import find

log = logging.getLogger(__name__)

UNKNOWN_SHAPE = "?"
"""Of files whose journal was lost: their options are unknown, so no option can differ from them."""


@dataclass(frozen=True)
class Folder:
    """An output or backup folder of a run."""

    path: Path
    sources: frozenset[Path]
    """Folders that its photos are taken from, and photos that were named one by one."""
    photos: int | None = None
    """How many are planned; None if that is not known."""


def folders_of(tasks: Sequence[Task]) -> list[Folder]:
    """The folders that these tasks write to."""
    by_root: dict[Path, list[Task]] = {}
    for task in tasks:
        by_root.setdefault(task.root, []).append(task)
    return [Folder(root, frozenset(map(_taken_from, own)), len(own)) for root, own in sorted(by_root.items())]


def _taken_from(task: Task) -> Path:
    """The folder that was searched, if the photo really lies in it: a list of files may name them through links."""
    if task.source_root is None:
        return task.source
    inside = task.backup is None or canonical(task.source).is_relative_to(real(task.source_root))
    return task.source_root if inside else task.source


def made_with(options: BatchOptions) -> Made:
    """What a run makes its outputs with.

    Raises:
        ModelError: there is no such model.
    """
    card = read_card(find(options.model, options.models_dir))
    return Made(options.shape, card.name, card.digest, RULE, __version__)


class Journals:
    """Opens a journal for every output folder of a run; a context manager that closes and unlocks them.

    The lock is the operating system's own and ends with the process, however that ends.
    """

    def __init__(self, options: BatchOptions, folders: Iterable[Folder], tasks: Sequence[Task] = ()) -> None:
        """Lock the folders and open their journals.

        Args:
            options: of the run.
            folders: output or backup folders.
            tasks: what is planned, to be compared with the folders once they are marked.

        Raises:
            FolderLocked: another run is using one of the folders.
            FolderUnavailable: a folder cannot be written to, or its disk is not mounted, or its journal is damaged.
            OptionsConflict: what is written would lie among the photos.
            ModelError: there is no such model.
        """
        self.made, self.asked = made_with(options), options.asked
        self._old = old_digest(options)
        self._options, self._owner = options, options.owner
        self._of: dict[Path, Journal] = {}
        self._marks: dict[Path, Mark | None] = {}
        self._siblings: dict[Path, list[Ledger]] = {}
        self._exit = contextlib.ExitStack()
        with self._exit:
            folders = list(folders)
            for folder in folders:
                check_present(folder.path, new=options.new_folder)
            for folder in folders:
                self._exit.enter_context(tried(folder.path))
                self._lock(folder)
                claim(folder.path, Holds.BACKUPS if options.in_place else Holds.OUTPUTS)
                refuse_same_folder(folder.path, folder.sources, tasks)
                journal = self._open(folder.path)
                journal.begin(f"{self.made.model}@{self.made.weights}", folder.photos, folder.sources)
                self._exit.callback(journal.end)
            self._exit = self._exit.pop_all()

    @classmethod
    def join(cls, options: BatchOptions, folders: Iterable[Path]) -> Journals:
        """Open the journals of a run that another process has locked and begun."""
        journals = cls(options, ())
        for folder in sorted(set(folders)):
            journals._open(folder).join()
        return journals

    def of(self, task: Task) -> Journal:
        """The journal that a photo's rows belong to."""
        return self._of[task.root]

    def check_folder(self, task: Task) -> None:
        """Refuse to write into a folder that is not the one whose journal is open.

        It may have been moved, or its disk taken away: what is written to its path would then be lost to ``undo``.

        Raises:
            CannotRecord: with that reason.
        """
        try:
            mark = read_mark(task.root)
        except FolderUnavailable:
            mark = None
        if mark is None or mark != self._marks[task.root]:
            raise CannotRecord(f"{task.root} is not the folder that the run began with; was it moved or unmounted?")

    def standing(self, task: Task) -> Standing | None:
        """What stands for a photo, whichever shard wrote it last."""
        found = [self.of(task).standing(task.place)]
        found += [ledger.standing.get(task.place) for ledger in self._siblings[task.root]]
        return max((s for s in found if s is not None), key=lambda s: s.written, default=None)

    def standing_with(self, task: Task, sha256: str) -> Standing | None:
        """A standing file with these bytes in the photo's folder."""
        return self.of(task).standing_with(sha256)

    def attempt(self, task: Task) -> Attempt | None:
        """The last attempt at a photo, by whichever shard."""
        found = [self.of(task).attempt(task.place)]
        found += [ledger.attempts.get(task.place) for ledger in self._siblings[task.root]]
        return max((a for a in found if a is not None), key=lambda a: a.ended, default=None)

    def made_alike(self, made: Made) -> bool:
        """Return True if a file was made with what the user asks for now; a program's update changes nothing."""
        return made.model == self.made.model and made.shape in (self.made.shape, self._old, UNKNOWN_SHAPE)

    def asked_alike(self, attempt: Attempt) -> bool:
        """Return True if an attempt was made with all that the user asks for now."""
        return attempt.made.model == self.made.model and attempt.asked in (self.asked, self._old)

    def is_outdated(self, made: Made) -> bool:
        """Return True if an older model, rule or version made a file."""
        return (made.weights, made.rule, made.program) != (self.made.weights, self.made.rule, self.made.program)

    def sweep(self, tasks: Sequence[Task]) -> None:
        """Remove temporary files that a killed run left where these tasks will write."""
        if swept := sweep({place.parent for task in tasks for place in task.places}, self._owner):
            log.info("removed %d temporary files of a run that was killed", swept)

    def __enter__(self) -> Journals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit.close()

    def _open(self, folder: Path) -> Journal:
        path = journal_path(folder, self._owner)
        journal = Journal(path)
        self._exit.callback(journal.close)
        self._of[folder] = journal
        self._marks[folder] = read_mark(folder)
        self._siblings[folder] = [read_journal(other) for other in journals_in(folder) if other.name != path.name]
        return journal

    def _lock(self, folder: Folder) -> None:
        like = next((source for source in sorted(folder.sources) if source.is_dir()), None)
        try:
            make_folders(folder.path, like=like)
        except OSError as error:
            role = Role.BACKUP if self._options.in_place else Role.OUTPUT
            raise FolderUnavailable(f"cannot write to {folder.path}: {error.strerror or error}", role) from error
        self._exit.enter_context(locked(folder.path, self._owner))


@contextlib.contextmanager
def locked(folder: Path, owner: str) -> Iterator[None]:
    """Keep all other runs and undos of this owner out of a folder.

    Raises:
        FolderLocked: there is one.
        FolderUnavailable: the folder cannot be written to.
    """
    path = folder / MARK_FOLDER / f"lock-{owner}"
    lock = FileLock(path, blocking=False)
    try:
        make_folders(path.parent)
        lock.acquire()
    except Timeout:
        raise FolderLocked(f"another run of codiff-batch is using {folder}; wait for it or stop it") from None
    except OSError as error:
        raise FolderUnavailable(f"cannot write to {folder}: {error.strerror or error}", Role.OUTPUT) from error
    with lock:
        yield
