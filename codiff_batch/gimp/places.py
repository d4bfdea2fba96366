"""Where GIMP 3 keeps a user's files, and where ours go."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from codiff_batch.errors import FolderUnavailable, Role

NAME = "codiff-batch"
DIRECTORY_VARIABLE = "GIMP3_DIRECTORY"
_VERSION = re.compile(r"3\.\d+")


def gimp_folders(named: Path | None = None) -> list[Path]:
    """The user folders of every GIMP 3 on this machine, such as ``~/.config/GIMP/3.0``.

    Args:
        named: the one to use instead of searching.

    Raises:
        FolderUnavailable: there is none; the message says what to do.
    """
    if named is None and (variable := os.environ.get(DIRECTORY_VARIABLE)):
        named = Path(variable)
    if named is not None:
        if not named.is_dir():
            raise FolderUnavailable(f"{named} is not a folder")
        return [named]
    found = [folder for root in _roots() for folder in sorted(root.glob("3.*")) if _VERSION.fullmatch(folder.name)]
    if not found and (version := _version_of_program()):
        fresh = _roots()[0] / version
        fresh.mkdir(parents=True)
        found = [fresh]
    if not found:
        raise FolderUnavailable(
            "no GIMP 3 was found; start it once, or say where its folder is (GIMP shows it in Edit > Preferences > "
            "Folders)",
            Role.GIMP_FOLDER,
        )
    return found


def plugin_folder(gimp: Path) -> Path:
    """Our folder among GIMP's plug-ins; GIMP asks for a file of the same name in it."""
    return gimp / "plug-ins" / NAME


def plugin_file(gimp: Path) -> Path:
    """The plug-in as GIMP finds it."""
    return plugin_folder(gimp) / f"{NAME}.py"


def environ_file(gimp: Path) -> Path:
    """The file from which GIMP takes our variables."""
    return gimp / "environ" / f"{NAME}.env"


def plugin_source() -> Path:
    """The plug-in's folder in this installation: packed with the package, or in the clone it was installed from.

    Raises:
        FolderUnavailable: this installation lacks it.
    """
    here = Path(__file__).resolve().parent
    for place in (here / "plug-in", here.parents[1] / "plugins/gimp" / NAME):
        if (place / f"{NAME}.py").is_file():
            return place
    raise FolderUnavailable("this installation of codiff-batch lacks the GIMP plug-in; install it again")


def plugin_files(folder: Path) -> list[Path]:
    """The files of a plug-in's folder, relative to it."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def _roots() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        return [Path(os.environ.get("APPDATA", home / "AppData/Roaming")) / "GIMP"]
    if sys.platform == "darwin":
        return [home / "Library/Application Support/GIMP"]
    own = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "GIMP"
    return [own, home / ".var/app/org.gimp.GIMP/config/GIMP", home / "snap/gimp/current/.config/GIMP"]


def _version_of_program() -> str | None:
    """``3.0`` if a GIMP 3 can be started."""
    program = shutil.which("gimp-console") or shutil.which("gimp")
    if program is None:
        return None
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(told)
    return found.group() if found else None
