"""Finds the photos to work on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from codiff_batch.batch.marks import is_marked
from codiff_batch.files.identity import Place, place_of

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


def scan(paths: Iterable[Path], exclude: Collection[Path] = ()) -> Iterator[Found]:
    """Yield each photo once, folders recursively in a stable order.

    Linked folders are not entered, so loops cannot happen. Hidden files and folders are left out.

    Args:
        paths: files and folders.
        exclude: folders not to enter: outputs and backups that lie inside what is scanned.
    """
    seen: set[Place] = set()
    barred = {folder.resolve() for folder in exclude}
    for path in paths:
        found = _scan_folder(path, barred) if path.is_dir() else [Found(path, None)]
        for photo in found:
            if (place := place_of(photo.path)) not in seen:
                seen.add(place)
                yield photo


def accepts(path: Path, root: Path, barred: Collection[Path] = ()) -> bool:
    """Whether a scan of the root would yield this path, as far as names tell; ``barred`` are resolved folders."""
    if not (path.is_relative_to(root) and _is_photo_name(path.name)):
        return False
    return all(_enters(root / folder, barred) for folder in path.relative_to(root).parents if folder.name)


def _scan_folder(root: Path, barred: Collection[Path]) -> Iterator[Found]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted((n for n in subfolders if _enters(Path(folder, n), barred)), key=os.fsencode)
        for name in sorted(names, key=os.fsencode):
            path = Path(folder, name)
            if _is_photo_name(name) and path.is_file():
                yield Found(path, root)


def _is_photo_name(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def _enters(folder: Path, barred: Collection[Path]) -> bool:
    hidden = folder.name.startswith(".") or folder.name in SKIPPED_FOLDERS
    # Outputs and backups of earlier runs are nobody's sources.
    return not hidden and folder.resolve() not in barred and not is_marked(folder)
