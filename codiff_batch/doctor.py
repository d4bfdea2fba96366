"""What this machine has, what would be used, how fast it is, and what is wrong."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from codiff_batch import __version__
from codiff_batch.errors import CodiffError, FolderUnavailable

if TYPE_CHECKING:
    import torch

    from codiff_batch.models.catalogue import ModelEntry

SIDE = 512
"""Side of the picture that a model is timed on, in pixels."""

LITTLE_MEMORY = 2e9
"""Bytes below which the bundled models may run out of it."""

COMFYUI_VARIABLE = "COMFYUI_PATH"


@dataclass
class Examination:
    """A heading, what was found, and complaints, each with its remedy."""

    heading: str
    found: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def examine(device: str = "auto", models_dir: Path | None = None) -> Iterator[Examination]:
    """Examine the machine, part by part; takes a few seconds, since models are loaded and timed.

    Args:
        device: where models would run, ``auto`` or a name.
        models_dir: where installed models lie, instead of the user's data directory.
    """
    yield _program()
    devices, chosen = _devices(device)
    yield devices
    yield _models(chosen, models_dir)
    yield _gimp()
    yield _comfyui()


def _program() -> Examination:
    import torch

    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Examination("program", [f"codiff-batch {__version__}, {system}", f"torch {torch.__version__}, {built}"])


def _devices(wanted: str) -> tuple[Examination, torch.device]:
    import psutil
    import torch

    from codiff_batch.engine.device import choose_device, numbered_gpus
    from codiff_batch.engine.lanes import choose_lanes
    from codiff_batch.engine.memory import free_memory, total_memory
    from codiff_batch.engine.precision import has_native_bfloat16

    part = Examination("devices")
    cpu = torch.device("cpu")
    bfloat16 = "with" if has_native_bfloat16() else "without"
    lanes = choose_lanes(free_memory(cpu))
    part.found.append(
        f"cpu: {torch.get_num_threads()} threads of {os.cpu_count()}, {total_memory(cpu) / 1e9:.1f} GB of memory, "
        f"{psutil.virtual_memory().available / 1e9:.1f} GB free, {bfloat16} native bfloat16; "
        f"fastest with {lanes.count if lanes else 1} tile(s) at a time"
    )
    if psutil.virtual_memory().available < LITTLE_MEMORY:
        part.complaints.append("little memory is free; close other programs, or large photos may fail")
    for gpu in numbered_gpus():
        name = getattr(torch, gpu.type).get_device_name(gpu)
        part.found.append(
            f"{gpu}: {name}, {total_memory(gpu) / 1e9:.1f} GB of memory, {free_memory(gpu) / 1e9:.1f} GB free"
        )
    if torch.backends.mps.is_available():
        part.found.append("mps: Apple's GPU, which shares the machine's memory")
    if not torch.cuda.is_available() and _has_nvidia_card():
        cure = "install one that has it" if torch.version.cuda is None else "install or update NVIDIA's driver"
        what = "torch was built without CUDA" if torch.version.cuda is None else "CUDA cannot be used"
        part.complaints.append(f"there is an NVIDIA card, but {what}; {cure}")
    try:
        chosen = choose_device(wanted)
    except CodiffError as error:
        part.complaints.append(str(error))
        chosen = cpu
    part.found.append(f"used for {wanted!r}: {chosen}")
    return part, chosen


def _has_nvidia_card() -> bool:
    return Path("/proc/driver/nvidia/gpus").is_dir() or shutil.which("nvidia-smi") is not None


def _models(device: torch.device, models_dir: Path | None) -> Examination:
    from codiff_batch.models.catalogue import available, user_models_dir

    part = Examination("models")
    for entry in available(models_dir):
        if entry.status == "damaged":
            part.complaints.append(f"{entry.name}: {entry.summary}; remove it or install it again")
        elif entry.path is None:
            part.found.append(f"{entry.name}: not installed")
        else:
            try:
                part.found.append(f"{entry.name}: {_speed(entry, device)}")
            except (CodiffError, RuntimeError) as error:
                part.complaints.append(f"{entry.name} cannot be used: {str(error).splitlines()[0]}")
    part.found.append(f"installed models are looked for in {user_models_dir(models_dir)}")
    return part


def _speed(entry: ModelEntry, device: torch.device) -> str:
    """How a model would run, and how fast; small ones are timed, large ones estimated."""
    import numpy as np

    from codiff_batch.engine import Restorer
    from codiff_batch.engine.device import seconds_per_megapixel
    from codiff_batch.engine.precision import choose_precision
    from codiff_batch.models.card import read_card

    assert entry.path is not None
    card = read_card(entry.path)
    if card.macs_per_pixel:
        floats = choose_precision(card, device).weights
        seconds = _told(seconds_per_megapixel(card, device, floats))
        how = f"{str(floats).removeprefix('torch.')} on {device}"
        return f"{how}, about {seconds} per megapixel (estimated from one convolution)"
    restorer = Restorer.load(entry.path, str(device))
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    times = []
    for _ in range(2):
        started = time.perf_counter()
        restorer.restore(noise, qf=10)  # as a photo that needs all of the work
        times.append(time.perf_counter() - started)
    seconds, tile = _told(min(times) * 1e6 / SIDE**2), restorer.geometry.tile
    return f"{restorer.precision} on {device}, tiles of {tile}, {seconds} per megapixel (measured now)"


def _told(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds > 90 else f"{seconds:.2g} s"


def _gimp() -> Examination:
    from codiff_batch.gimp.doctor import complaints
    from codiff_batch.gimp.places import gimp_folders, plugin_file

    part = Examination("GIMP")
    try:
        folders = gimp_folders(None)
    except FolderUnavailable:
        part.found.append("no GIMP 3 was found")
        return part
    for gimp in folders:
        # Not everyone who has GIMP wants the plug-in.
        if not plugin_file(gimp).exists():
            part.found.append(f"{gimp}: plug-in not installed; run 'codiff-batch gimp install'")
            continue
        found = list(complaints(gimp))
        part.found += [] if found else [f"{gimp}: no problems found"]
        part.complaints += [f"{gimp}: {complaint}" for complaint in found]
    return part


def _comfyui() -> Examination:
    part = Examination("ComfyUI")
    named = os.environ.get(COMFYUI_VARIABLE)
    places = [Path(named)] if named else [Path.home() / "ComfyUI", Path.home() / "comfy/ComfyUI"]
    for place in places:
        if not (place / "custom_nodes").is_dir():
            continue
        nodes = sorted((place / "custom_nodes").glob("*/nodes/restoring.py"))
        where = f"with the nodes in {nodes[0].parents[1].name}" if nodes else "without the nodes"
        part.found.append(f"{place}: {where}")
    if not part.found:
        part.found.append(f"not found in {' or '.join(map(str, places))}; set {COMFYUI_VARIABLE} to its folder")
    return part
