"""Installing and removing the plug-in."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from codiff_batch.errors import FolderUnavailable
from codiff_batch.gimp.places import environ_file, plugin_file, plugin_files, plugin_folder, plugin_source

PYTHON = "CODIFF_PYTHON"


def install(gimp: Path) -> None:
    """Put the plug-in into a GIMP's folder, executable, and tell it which Python has codiff-batch.

    Raises:
        FolderUnavailable: the folder cannot be written to.
    """
    plugin, environ, source = plugin_folder(gimp), environ_file(gimp), plugin_source()
    try:
        if plugin.is_dir():
            shutil.rmtree(plugin)  # so that no file of an older version remains
        for name in plugin_files(source):
            (plugin / name).parent.mkdir(parents=True, exist_ok=True)
            (plugin / name).write_bytes((source / name).read_bytes())
        # GIMP silently ignores a plug-in without this bit.
        plugin_file(gimp).chmod(0o755)
        environ.parent.mkdir(parents=True, exist_ok=True)
        environ.write_text(f"{PYTHON}={sys.executable}\n", encoding="utf-8")
    except OSError as error:
        raise FolderUnavailable(f"{gimp}: {error}") from error


def uninstall(gimp: Path) -> bool:
    """Remove the plug-in; return True if there was one.

    Raises:
        FolderUnavailable: it cannot be removed.
    """
    there = plugin_folder(gimp).exists() or environ_file(gimp).exists()
    try:
        if plugin_folder(gimp).exists():
            shutil.rmtree(plugin_folder(gimp))
        environ_file(gimp).unlink(missing_ok=True)
    except OSError as error:
        raise FolderUnavailable(f"{gimp}: {error}") from error
    return there
