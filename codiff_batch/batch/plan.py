"""Decides where each photo's output goes, before anything is written."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codiff_batch.batch.marks import read_mark
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.overlaps import refuse_backups, refuse_overlaps
from codiff_batch.batch.scan import Found, scan
from codiff_batch.errors import OptionsConflict, Role
from codiff_batch.files.identity import Place, place_of, real

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One photo's source and where its output, copy or backup belongs."""

    source: Path
    target: Path
    """Of the restored picture."""
    copy: Path
    """Of the source's bytes, if the output folder is to be complete."""
    root: Path
    """The output or backup folder, where the journal lies."""
    backup: Path | None = None
    conflict: str | None = None
    """Why this task must not run: another photo has the same target."""
    error: str | None = None
    """Why the source cannot even be looked at; the journal is not told, because the photos are not known."""
    source_root: Path | None = None
    """The folder that was searched for photos; None for a photo that was named itself."""

    @property
    def place(self) -> Path:
        """Of the output, or in place of the backup, relative to the root: what the journal knows the photo by."""
        return (self.backup or self.target).relative_to(self.root)

    @property
    def places(self) -> list[Path]:
        """Everything that may be written."""
        return [place for place in (self.target, self.copy, self.backup) if place is not None]


def plan(options: BatchOptions) -> list[Task]:
    """Find all photos and give each a target of its own; of those, take this shard's.

    Raises:
        OptionsConflict: an output or a backup would be a source, or a folder has no name to derive one from.
    """
    written = [folder for folder in (options.output, options.backup) if folder is not None]
    if not written:
        for path in filter(os.path.isdir, options.paths):
            output_root(path)  # Where there is none, that is said before a whole disk is searched.
    found = scan(_sources(options.paths), written, names=options.names, patterns=options.exclude, types=options.types)
    return plan_photos(list(found), options)


def plan_each(photos: Sequence[Found], options: BatchOptions) -> list[Task]:
    """Like :func:`plan_photos`, but a photo that must not run has a conflict of its own, and the others go on."""
    try:
        return plan_photos(photos, options)
    except OptionsConflict as error:
        if len(photos) == 1:
            return [replace(task_of(photos[0], options), conflict=str(error))]
        return [task for photo in photos for task in plan_each([photo], options)]


def plan_photos(photos: Sequence[Found], options: BatchOptions) -> list[Task]:
    """Like :func:`plan`, for photos that were found already."""
    tasks = without_collisions(task_of(photo, options) for photo in photos)
    refuse_overlaps([task for task in tasks if not task.error])
    if options.shard is None:
        return tasks
    shard = options.shard
    return [task for photo, task in zip(photos, tasks, strict=True) if shard.owns(photo.relative)]


def without_collisions(tasks: Iterable[Task]) -> list[Task]:
    """Mark every task whose output, copy or backup would be the same file as that of an earlier one."""
    return list(_without_collisions(tasks))


def output_root(folder: Path) -> Path:
    """The default output folder: a sibling called ``<name>-restored``.

    Raises:
        OptionsConflict: the folder is a root without a name.
    """
    resolved = real(folder)
    if not resolved.name:
        raise OptionsConflict(f"{folder} has no name to derive an output folder from", Role.OUTPUT)
    return resolved.with_name(f"{resolved.name}-restored")


def _sources(paths: Sequence[Path]) -> list[Path]:
    """The paths to search, without folders that hold outputs of earlier runs.

    Raises:
        OptionsConflict: one holds originals, or nothing is left.
    """
    refuse_backups(paths)
    outputs = [path for path in paths if read_mark(path)]
    for path in outputs:
        sentence = f"{path} holds outputs of earlier runs; name the folder with the photos instead"
        if len(outputs) == len(paths):
            raise OptionsConflict(sentence)
        log.warning("left out: %s", sentence)
    return [path for path in paths if path not in outputs]


def task_of(photo: Found, options: BatchOptions) -> Task:
    """Return where one photo's output belongs, without looking at other photos.

    Raises:
        OptionsConflict: its folder has no name to derive an output folder from.
    """
    from codiff_batch.formats import suffix_of

    source, root, relative = photo.path, photo.root, photo.relative
    several = len(options.paths) > 1
    if options.backup is not None:
        backup = options.backup / _branch(root, several) / relative
        return Task(
            source, target=source, copy=source, root=options.backup, backup=backup, error=photo.error, source_root=root
        )
    if options.output is not None:
        output, folder = options.output, options.output / _branch(root, several)
    else:
        output = folder = output_root(root if root is not None else source.parent)
    copy = folder / relative
    suffix = suffix_of(options.format, source.suffix)
    target = copy.with_suffix(suffix) if suffix else copy
    return Task(source, target, copy, output, error=photo.error, source_root=root)


def _branch(root: Path | None, several: bool) -> Path:
    """Subfolder of one output folder for each of several scanned folders."""
    return Path(real(root).name) if several and root is not None else Path()


def _without_collisions(tasks: Iterable[Task]) -> Iterator[Task]:
    owners: dict[Place, Path] = {}
    for task in tasks:
        if task.conflict or task.error:
            yield task
            continue
        places = {place_of(place) for place in task.places}
        owner = next((owners[place] for place in places if place in owners), None)
        if owner is not None:
            yield replace(task, conflict=f"its output would be the same file as that of {owner}")
            continue
        owners |= dict.fromkeys(places, task.source)
        yield task
