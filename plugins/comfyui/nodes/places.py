"""Where photos may come from: ComfyUI's input folder and what its owner linked into it, and nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import folder_paths

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
ANNOTATION = " [input]"


def input_file(name: str) -> Path:
    """A photo by the name that nodes have for it, such as ``album/photo.jpg``.

    Raises:
        ValueError: it is outside the input folder, not there, or no regular file.
    """
    if name.endswith("]"):
        if not name.endswith(ANNOTATION):
            raise ValueError(f"{name!r} is outside the input folder.")
        name = name.removesuffix(ANNOTATION)
    path = _inside(name)
    if path is None or not _is_file(path):
        raise ValueError(f"There is no file {name!r} in the input folder.")
    return path


def input_folder(name: str) -> Path:
    """A folder inside the input folder, or the input folder itself.

    Raises:
        ValueError: it is outside, or not there.
    """
    path = _inside(name)
    if path is None or not path.is_dir():
        raise ValueError(f"There is no folder {name!r} in the input folder.")
    return path


def photos(folder: str, *, subfolders: bool) -> list[str]:
    """Names, relative to the folder, of all JPEG files in it that nodes may read, in order."""
    root = input_folder(folder)
    found = []
    for place, folders, files in os.walk(root, followlinks=True):
        here = Path(place)
        inside = Path(folder, here.relative_to(root))
        known = {here.resolve(), *here.resolve().parents}
        folders[:] = sorted(f for f in folders if subfolders and _readable(inside / f) not in {None, *known})
        found += [inside / file for file in files if Path(file).suffix.lower() in SUFFIXES]
    return [str(path.relative_to(folder)) for path in sorted(found) if _is_file(_readable(path))]


def _readable(path: Path) -> Path | None:
    """The real path behind one in the input folder, None if it leads out or nowhere."""
    try:
        return _inside(str(path))
    except ValueError:
        return None


def _inside(name: str) -> Path | None:
    """The real path behind a name, None if there is nothing.

    The owner of the machine may link other folders into the input folder; links that such a folder holds must stay in
    it, and a file must not be a link that leads out.

    Raises:
        ValueError: the name leads out.
    """
    relative = Path(name)
    if relative.is_absolute() or relative.drive or ".." in relative.parts or "\0" in name:
        raise ValueError(f"{name!r} is outside the input folder.")
    root = Path(folder_paths.get_input_directory()).resolve()
    allowed = here = root
    for part in relative.parts:
        step = here / part
        try:
            real = step.resolve()
            linked_in = here.is_relative_to(root) and step.is_symlink() and real.is_dir()
        except (OSError, RuntimeError):  # a circle of links, or a name that is too long
            return None
        if not real.is_relative_to(allowed):
            if not linked_in:
                raise ValueError(f"{name!r} is outside the input folder.")
            allowed = real
        here = real
    return here if here.exists() else None


def _is_file(path: Path | None) -> bool:
    try:
        return path is not None and stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
