"""Finds the photos to work on, and reports what it could not look at."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from codiff_batch.batch.marks import is_marked
from codiff_batch.files.identity import canonical, same_file
from codiff_batch.rasters.kinds import SUFFIXES as SUFFIXES_OF

SUFFIXES = SUFFIXES_OF["jpeg"]
"""Suffixes of files that are taken from folders unless other types are asked for."""

SKIPPED_FOLDERS = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "@snapshot", "@sharesnap", "@sharebin", "@tmp"}  # storage boxes
    | {"#recycle", "#snapshot", "~snapshot", "network trash folder", "temporary items", "lost+found"}
    | {"$recycle.bin", "recycler", "recycled", "system volume information"}  # disks of Windows
)
"""Recycle bins, snapshots and thumbnails that lie among photos, in lower case; hidden folders are skipped as well."""

_OWN_THUMBNAIL = re.compile(r"\d{6}-(before|after)\.jpg")
"""In the folder ``<page>-files`` beside a report."""


@dataclass(frozen=True)
class Found:
    """One file to look at."""

    path: Path
    root: Path | None
    """The folder argument under which it was found; None for a file that was named itself."""
    error: str | None = None
    """Why nothing can be done with this path; a folder's photos are then missing."""

    @property
    def relative(self) -> Path:
        """Path below the root, the same on every machine that sees the folder."""
        return self.path.relative_to(self.root) if self.root is not None else Path(self.path.name)


def scan(
    paths: Iterable[Path],
    exclude: Collection[Path] = (),
    *,
    names: Iterable[Path] = (),
    patterns: Sequence[str] = (),
    types: Sequence[str] = ("jpeg",),
) -> Iterator[Found]:
    """Yield each photo once, folders recursively in a stable order; never raises for what it finds.

    Linked folders are not entered, so loops cannot happen. Hidden files and folders are left out, and so are
    recycle bins, snapshots, thumbnails, outputs and backups of earlier runs, and links that lead nowhere. Folders
    that cannot be read and links into them are yielded with an error.

    Args:
        paths: files and folders.
        exclude: folders not to enter: outputs and backups that lie inside what is scanned.
        names: files of a list, whose tree is kept: below the current folder, or for files elsewhere below the
            whole disk; folders, and files in an excluded folder, are ignored.
        patterns: files and folders to leave out, see :func:`matches`.
        types: kinds of files that are taken from folders, see :mod:`codiff_batch.rasters.kinds`.
    """
    seen: set[tuple[int, int, str]] = set()
    entered: set[tuple[int, int]] = set()
    for path in paths:
        try:
            found = path.stat()
        except (OSError, ValueError) as error:
            yield Found(path, None, reason(error))
            continue
        if stat.S_ISDIR(found.st_mode):
            yield from _scan_folder(path, _Rule(path, exclude, patterns, types), seen, entered)
        elif not matches(path, path.parent, patterns) and _is_new(path, path.parent, seen):
            yield Found(path, None)
    for path in names:
        yield from _scan_listed(*_listed(path), exclude, patterns, seen)


def _listed(path: Path) -> tuple[Path, Path]:
    """A file of a list and its root: the current folder, or for files elsewhere the whole disk."""
    if not path.is_absolute() and ".." not in path.parts:
        return path, Path()
    whole, here = canonical(path), Path.cwd()
    return whole, here if whole.is_relative_to(here) else Path(whole.anchor)


def matches(path: Path, root: Path, patterns: Sequence[str]) -> bool:
    """Return True if a path below its root is left out.

    A pattern with the wildcards ``*``, ``?`` and ``[...]`` fits the whole path, its end after any slash, or any folder
    above, as tar's ``--exclude`` does: ``raw`` is any file or folder of that name, ``trip/*.jpg`` is everything below
    any folder ``trip``. One that begins with the root itself, as it was named or in full, fits from there on.
    """
    return any(_fits(path, root, pattern.removeprefix("./").rstrip("/")) for pattern in patterns)


def _fits(path: Path, root: Path, pattern: str) -> bool:
    below = path.relative_to(root)
    places = [below, *below.parents][:-1]
    if any(
        fnmatchcase("/".join(place.parts[start:]), pattern) for place in places for start in range(len(place.parts))
    ):
        return True
    from_root = (pattern.removeprefix(f"{spelt.as_posix().rstrip('/')}/") for spelt in (root, root.absolute()))
    return any(fnmatchcase(place.as_posix(), rest) for rest in from_root for place in places)


def accepts(
    path: Path,
    root: Path,
    exclude: Collection[Path] = (),
    *,
    patterns: Sequence[str] = (),
    types: Sequence[str] = ("jpeg",),
) -> bool:
    """Return True if a scan of the root would yield this path; never raises."""
    rule = _Rule(root, exclude, patterns, types)
    if not (path.is_relative_to(root) and rule.takes(path)):
        return False
    folders = [root / folder for folder in path.relative_to(root).parents if folder.name]
    try:
        return not any(folder.is_symlink() or not rule.enters(folder) for folder in folders)
    except OSError:
        return False  # the next scan says why


def reason(error: OSError | ValueError) -> str:
    """Say in one line why a path cannot be looked at."""
    told = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read: {told or error}"


@dataclass(frozen=True)
class _Rule:
    """What below a scanned folder is a source."""

    root: Path
    exclude: Collection[Path]
    patterns: Sequence[str]
    types: Sequence[str]

    def takes(self, path: Path) -> bool:
        """Return True for a photo, as far as its name tells."""
        own = path.parent.name.endswith("-files") and _OWN_THUMBNAIL.fullmatch(path.name)
        photo = any(path.suffix.lower() in SUFFIXES_OF[one] for one in self.types) and not path.name.startswith(".")
        return photo and not own and not self._left_out(path)

    def enters(self, folder: Path) -> bool:
        """Return True for a folder whose photos are sources; folders are compared as they are now, not by name."""
        if folder.name.startswith(".") or folder.name.lower() in SKIPPED_FOLDERS or is_marked(folder):
            return False
        return not any(same_file(folder, other) for other in self.exclude) and not self._left_out(folder)

    def _left_out(self, path: Path) -> bool:
        return matches(path, self.root, self.patterns)


def _scan_folder(
    root: Path, rule: _Rule, seen: set[tuple[int, int, str]], entered: set[tuple[int, int]]
) -> Iterator[Found]:
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            here = folder.stat()
            if (here.st_dev, here.st_ino) in entered:
                continue
            entered.add((here.st_dev, here.st_ino))
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            yield Found(folder, root, reason(error))
            continue
        below = []
        for entry in entries:
            path = folder / entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    if rule.enters(path):
                        below.append(path)
                elif rule.takes(path) and entry.is_file() and _is_new(path, folder, seen):
                    yield Found(path, root)
            except OSError as error:
                if error.errno != errno.ELOOP:  # a loop of links; it leads nowhere, like a dangling link
                    yield Found(path, root, reason(error))
        folders += reversed(below)


def _scan_listed(
    path: Path, root: Path, exclude: Collection[Path], patterns: Sequence[str], seen: set[tuple[int, int, str]]
) -> Iterator[Found]:
    """A file of a list, unless it is an output, a folder, or left out."""
    if matches(path, root, patterns):
        return
    if any(same_file(folder, other) for folder in canonical(path).parents for other in exclude):
        return
    try:
        if not stat.S_ISDIR(path.stat().st_mode) and _is_new(path, path.parent, seen):
            yield Found(path, root)
    except (OSError, ValueError) as error:
        yield Found(path, root, reason(error))


def _is_new(path: Path, folder: Path, seen: set[tuple[int, int, str]]) -> bool:
    """Return True the first time a name is seen, however its folder is spelled."""
    here = folder.stat()
    name = here.st_dev, here.st_ino, path.name
    if name in seen:
        return False
    seen.add(name)
    return True
