"""Refuses runs in which an output or a backup would be a source, however its name is spelled.

This is checked before anything is touched. :mod:`.outputs` checks again right before each write, in case something
changed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codiff_batch.batch.marks import backups_around
from codiff_batch.errors import FolderUnavailable, OptionsConflict, Role
from codiff_batch.files.atomic import TEMPORARY_PREFIX
from codiff_batch.files.identity import MARK_FOLDER, FileKey, folders_above, key_of, shows

if TYPE_CHECKING:
    from codiff_batch.batch.plan import Task


def refuse_overlaps(tasks: Sequence[Task]) -> None:
    """Refuse to write over photos, among photos, or into other runs' backups.

    Raises:
        OptionsConflict: with the sentence.
    """
    sources = {key: task.source for task in tasks for key in _keys(task.source)}
    searched = {key: folder for task in tasks for folder in _source_folders(task) if (key := key_of(folder))}
    refuse_backups({task.source.parent for task in tasks})
    for folder in {task.target.parent for task in tasks}:
        if backups := backups_around(folder):
            raise OptionsConflict(f"outputs would lie in {backups}, which holds originals; choose another folder")
    for task in tasks:
        _refuse_sources(task, sources)
        _refuse_folders(task, searched)
    for root in {task.root for task in tasks if task.backup is not None}:
        above = {key_of(around) for folder in _roots(tasks) for around in (folder, *folders_above(folder))}
        if key_of(root) in above:
            raise OptionsConflict(f"the backup folder {root} holds the photos themselves; choose one beside them")


def refuse_backups(folders: Iterable[Path]) -> None:
    """Refuse to take photos from where untouched originals are kept.

    Raises:
        OptionsConflict: with the sentence.
    """
    for folder in folders:
        if backups := backups_around(folder):
            raise OptionsConflict(f"{backups} holds the untouched originals of earlier runs, which stay as they are")


def refuse_same_folder(root: Path, sources: Iterable[Path], tasks: Iterable[Task]) -> None:
    """Refuse a folder that holds photos, or lies above them, by another mount: no number of the system's tells that.

    Args:
        root: the folder, marked.
        sources: folders that are searched, and photos that were named one by one.
        tasks: what was found already.

    Raises:
        OptionsConflict: with the sentence.
        FolderUnavailable: the folder cannot be written to.
    """
    searched = {folder for task in tasks for folder in _source_folders(task)} | set(filter(Path.is_dir, sources))
    above = {folder for path in (*searched, *sources) for folder in folders_above(path)}
    try:
        with tempfile.NamedTemporaryFile(prefix=TEMPORARY_PREFIX, dir=root / MARK_FOLDER) as file:
            for folder in searched | above:
                # Outputs may lie above photos that were named one by one, if nothing hides that they do.
                hidden = folder in searched or key_of(folder) != key_of(root)
                if hidden and shows(folder / MARK_FOLDER, Path(file.name)):
                    raise OptionsConflict(f"files would be written among the photos: {folder} is the same folder")
    except OSError as error:
        raise FolderUnavailable(f"cannot write to {root}: {error.strerror or error}", Role.OUTPUT) from error


def _refuse_sources(task: Task, sources: dict[FileKey, Path]) -> None:
    written = [task.backup] if task.backup is not None else [task.target, task.copy]
    for place in written:
        if (source := next((sources[key] for key in _keys(place) if key in sources), None)) is not None:
            what = "backup" if task.backup is not None else "output"
            raise OptionsConflict(
                f"the {what} of {task.source} would be a photo itself ({source}); choose another folder"
            )


def _refuse_folders(task: Task, searched: dict[FileKey, Path]) -> None:
    place = task.backup if task.backup is not None else task.target
    for key in _chain(place.parent, task.root):
        if key in searched:
            what = "backups" if task.backup is not None else "outputs"
            raise OptionsConflict(f"{what} would lie among the photos of {searched[key]}; choose another folder")


def _chain(folder: Path, root: Path) -> Iterator[FileKey]:
    """The existing folders from one up to the root of what is written."""
    while True:
        if (key := key_of(folder)) is not None:
            yield key
        if folder == root or folder == folder.parent:
            return
        folder = folder.parent


def _keys(path: Path) -> set[FileKey]:
    """A file, and the link that leads to it."""
    return {key for key in (key_of(path), key_of(path, follow=False)) if key is not None}


def _source_folders(task: Task) -> Iterator[Path]:
    """The folders that were searched on the way to a photo; none for a photo that was named directly."""
    if task.source_root is None:
        return
    folder = task.source.parent
    while folder != task.source_root and folder != folder.parent:
        yield folder
        folder = folder.parent
    yield task.source_root


def _roots(tasks: Iterable[Task]) -> set[Path]:
    return {task.source_root if task.source_root is not None else task.source.parent for task in tasks}
