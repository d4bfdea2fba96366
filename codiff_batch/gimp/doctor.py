"""Says in plain words why the menu entry does not appear or does not work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from codiff_batch import __version__
from codiff_batch.gimp.install import PYTHON
from codiff_batch.gimp.places import NAME, environ_file, plugin_file, plugin_files, plugin_folder, plugin_source

AGAIN = "run 'codiff-batch gimp install' again"


def complaints(gimp: Path) -> Iterator[str]:
    """Everything that is wrong with the plug-in in one GIMP's folder, each with its remedy."""
    plugin = plugin_file(gimp)
    flat = gimp / "plug-ins" / f"{NAME}.py"
    if flat.exists():
        yield f"{flat} is not in a folder of its own, so GIMP 3 ignores it; remove it"
    if not plugin.is_file():
        yield f"the plug-in is not installed: {plugin} is missing; run 'codiff-batch gimp install'"
        return
    if _contents(plugin_folder(gimp)) != _contents(plugin_source()):
        yield f"{plugin} belongs to another version than this codiff-batch, {__version__}; {AGAIN}"
    if os.name != "nt" and not os.access(plugin, os.X_OK):
        yield f"{plugin} is not executable, so GIMP silently ignores it; {AGAIN}"
    yield from _about_engine(gimp)
    if ".var/app" in gimp.as_posix() or "/snap/" in gimp.as_posix():
        yield (
            "this GIMP is a Flatpak or a snap, which cannot start programs outside itself; use your system's "
            "packages or gimp.org's AppImage"
        )


def _about_engine(gimp: Path) -> Iterator[str]:
    """What is wrong with the Python that the plug-in will start."""
    try:
        lines = environ_file(gimp).read_text(encoding="utf-8").splitlines()
    except OSError:
        yield f"{environ_file(gimp)} is missing, so the plug-in cannot find the engine; {AGAIN}"
        return
    python = next((line.partition("=")[2] for line in lines if line.startswith(f"{PYTHON}=")), "")
    if not Path(python).is_file():
        yield f"the engine's Python, {python or 'none'}, no longer exists; {AGAIN} from an environment that stays"
        return
    command = [python, "-c", "import codiff_batch, torch; print(codiff_batch.__version__)"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    try:
        told = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=environment, cwd=gimp
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield f"the engine's Python cannot be started: {error}; {AGAIN}"
        return
    if told.returncode:
        words = (told.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield f"the engine's Python, {python}, cannot import codiff-batch ({words}); install it there, or {AGAIN}"
    elif told.stdout.strip() != __version__:
        yield f"the engine's Python, {python}, has codiff-batch {told.stdout.strip()}, not {__version__}; {AGAIN}"


def _contents(folder: Path) -> dict[Path, bytes]:
    return {name: (folder / name).read_bytes() for name in plugin_files(folder)}


def remarks() -> Iterator[str]:
    """What would go wrong in a GIMP started from this shell, although the plug-in is fine."""
    if sys.platform in ("win32", "darwin"):
        return  # There GIMP brings its own Python.
    first, system = shutil.which("python3"), Path("/usr/bin/python3")
    if first is None or Path(first) == system or not system.exists():
        return
    has_gi = subprocess.run([first, "-c", "import gi"], capture_output=True, check=False).returncode == 0
    if not has_gi:
        yield (
            f"a GIMP started from this shell would use {first} for its plug-ins, which lacks GIMP's bindings (gi), so "
            "none of its Python plug-ins would work; start GIMP from the desktop's menu, or from a shell without "
            "the virtual environment, conda or pyenv in its PATH"
        )
