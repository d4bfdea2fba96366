"""Decides where each photo's output goes, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.scan import Found, identity, scan
from codiff_batch.errors import OptionsConflict


@dataclass(frozen=True)
class Task:
    """One photo's source and where its output, copy or backup belongs."""

    source: Path
    target: Path
    """Of the restored picture."""
    copy: Path
    """Of the source's bytes, if it is skipped and ``--copy-skipped`` asks for a complete folder."""
    root: Path
    """The output or backup folder, where the journal lies."""
    backup: Path | None = None
    conflict: str | None = None
    """Why this task must not run: another photo has the same target."""


def plan(options: BatchOptions) -> list[Task]:
    """Find all photos and give each a target of its own; of those, take this shard's.

    Raises:
        OptionsConflict: outputs would land on their sources, or a folder has no name to derive one from.
    """
    written = [folder for folder in (options.output, options.backup) if folder is not None]
    return plan_photos(list(scan(options.paths, exclude=written)), options)


def plan_photos(photos: Sequence[Found], options: BatchOptions) -> list[Task]:
    """Like :func:`plan`, for photos that were found already."""
    tasks = list(_without_collisions(_task(photo, options) for photo in photos))
    if not options.in_place:
        _refuse_sources_as_targets(tasks)
    if options.shard is None:
        return tasks
    shard = options.shard
    return [task for photo, task in zip(photos, tasks, strict=True) if shard.owns(photo.relative)]


def output_root(folder: Path) -> Path:
    """The default output folder: a sibling called ``<name>-restored``.

    Raises:
        OptionsConflict: the folder is a root without a name.
    """
    resolved = folder.resolve()
    if not resolved.name:
        raise OptionsConflict(f"{folder} has no name to derive an output folder from; use --output")
    return resolved.with_name(f"{resolved.name}-restored")


def _refuse_sources_as_targets(tasks: Sequence[Task]) -> None:
    sources = {identity(task.source) for task in tasks}
    for task in tasks:
        if {identity(task.target), identity(task.copy)} & sources:
            raise OptionsConflict(
                f"the output of {task.source} would be a source itself; use another --output, or --in-place"
            )


def _task(photo: Found, options: BatchOptions) -> Task:
    from codiff_batch.formats import suffix_of

    source, root, relative = photo.path, photo.root, photo.relative
    several = len(options.paths) > 1
    if options.backup is not None:
        backup = options.backup / _branch(root, several) / relative
        return Task(source, target=source, copy=source, root=options.backup, backup=backup)
    if options.output is not None:
        output, folder = options.output, options.output / _branch(root, several)
    else:
        output = folder = output_root(root if root is not None else source.parent)
    copy = folder / relative
    suffix = suffix_of(options.format)
    target = copy.with_suffix(suffix) if suffix else copy
    return Task(source, target, copy, output)


def _branch(root: Path | None, several: bool) -> Path:
    """Subfolder of one output folder for each of several scanned folders."""
    return Path(root.resolve().name) if several and root is not None else Path()


def _without_collisions(tasks: Iterable[Task]) -> Iterator[Task]:
    """Mark every task whose target is taken by an earlier one."""
    owners: dict[Path, Path] = {}
    for task in tasks:
        places = {identity(place) for place in (task.target, task.copy, task.backup) if place is not None}
        owner = next((owners[place] for place in places if place in owners), None)
        if owner is not None:
            yield replace(task, backup=None, conflict=f"its output would be the same file as that of {owner}")
            continue
        owners |= dict.fromkeys(places, task.source)
        yield task
