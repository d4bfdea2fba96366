"""Finds the photos to work on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
"""File names that are taken from folders, whatever their case; files named one by one are always taken."""

SKIPPED_FOLDERS = frozenset({"@eaDir"})
"""Folders of thumbnails that storage boxes leave among photos; hidden folders are skipped as well."""


@dataclass(frozen=True)
class Found:
    """One file to look at."""

    path: Path
    root: Path | None
    """The folder argument under which it was found; None for a file that was named itself."""

    @property
    def relative(self) -> Path:
        """Path below the root, the same on every machine that sees the folder."""
        return self.path.relative_to(self.root) if self.root is not None else Path(self.path.name)


def scan(
    paths: Iterable[Path], names: Iterable[Path] = (), exclude: Collection[Path] = (), patterns: Sequence[str] = ()
) -> Iterator[Found]:
    """Yield each photo once, folders recursively in a stable order.

    Linked folders are not entered, so loops cannot happen. Hidden files and folders are left out.

    Args:
        paths: files and folders; a file is yielded even if it does not exist, so that it fails with its reason.
        names: files of a list, whose tree is kept (see :func:`listed`); folders among them are passed over.
        exclude: folders not to enter: outputs and backups that lie inside what is scanned.
        patterns: names not to take, as in :func:`matches`.
    """
    seen: set[Path] = set()
    barred = {folder.resolve() for folder in exclude}
    for photo in _found(paths, names, barred, patterns):
        if (name := identity(photo.path)) not in seen:
            seen.add(name)
            yield photo


def matches(relative: Path, patterns: Sequence[str]) -> bool:
    """Return True if a path below its root is excluded.

    A pattern with the wildcards ``*``, ``?`` and ``[...]`` fits the whole path, its end after any slash, or any folder
    above, as tar's ``--exclude`` does: ``raw`` is any file or folder of that name, ``trip/*.jpg`` is everything below
    any folder ``trip``.
    """
    if not patterns:
        return False
    parts = relative.parts
    ends = ["/".join(parts[start:stop]) for stop in range(1, len(parts) + 1) for start in range(stop)]
    return any(fnmatchcase(end, pattern.removeprefix("./").rstrip("/")) for pattern in patterns for end in ends)


def listed(path: Path) -> Found:
    """A file of a list, whose tree is kept: below the current folder, or for files elsewhere below the whole disk."""
    if not path.is_absolute() and ".." not in path.parts:
        return Found(path, Path())
    whole, here = identity(path), Path.cwd()
    return Found(whole, here if whole.is_relative_to(here) else Path(whole.anchor))


def identity(path: Path) -> Path:
    """A path that is equal for equal names, without following a link at its end."""
    return path.parent.resolve() / path.name


def accepts(path: Path, root: Path, barred: Collection[Path] = (), patterns: Sequence[str] = ()) -> bool:
    """Return True if a scan of the root would yield this path, as far as names tell; ``barred`` are resolved."""
    if not (path.is_relative_to(root) and _is_photo_name(path.name)) or matches(path.relative_to(root), patterns):
        return False
    return all(_enters(root / folder, barred) for folder in path.relative_to(root).parents if folder.name)


def _found(paths: Iterable[Path], names: Iterable[Path], barred: Set[Path], patterns: Sequence[str]) -> Iterator[Found]:
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - pathlib's raises where a folder above may not be entered
            yield from _scan_folder(path, barred, patterns)
        elif not matches(Path(path.name), patterns):
            yield Found(path, None)
    for path in names:
        photo = listed(path)
        inside = barred & set(identity(path).parents)
        if not (inside or matches(photo.relative, patterns) or os.path.isdir(path)):  # noqa: PTH112
            yield photo


def _scan_folder(root: Path, barred: Collection[Path], patterns: Sequence[str]) -> Iterator[Found]:
    for folder, subfolders, names in os.walk(root):
        below = Path(folder).relative_to(root)
        subfolders[:] = sorted(
            (n for n in subfolders if _enters(Path(folder, n), barred) and not matches(below / n, patterns)),
            key=os.fsencode,
        )
        for name in sorted(names, key=os.fsencode):
            path = Path(folder, name)
            if _is_photo_name(name) and path.is_file() and not matches(below / name, patterns):
                yield Found(path, root)


def _is_photo_name(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def _enters(folder: Path, barred: Collection[Path]) -> bool:
    hidden = folder.name.startswith(".") or folder.name in SKIPPED_FOLDERS
    return not hidden and folder.resolve() not in barred
