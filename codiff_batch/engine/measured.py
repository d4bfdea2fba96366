"""What is measured once on a machine and kept, so that it always works in the same way."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import torch


def remembered(what: str, measure: Callable[[], int], folder: Path | None = None) -> int:
    """Return a measurement's result, taken at most once for a processor, its threads and a version of torch.

    Args:
        what: the measurement's name.
        measure: takes it, in a fraction of a second.
        folder: where results are kept, instead of the user's cache directory; if that is impossible, the result still
            holds for this time.
    """
    if folder is None:
        import platformdirs

        folder = platformdirs.user_cache_path("codiff-batch", appauthor=False)
    key = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    path = folder / f"{what}.json"
    known = _known(path)
    if key not in known:
        measured = measure()
        # If two programs measure at the same time, the second uses the first one's result.
        known = {key: measured, **_known(path)}
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f"{path.name}.{os.getpid()}")
            fresh.write_text(json.dumps(known, indent=2), encoding="utf-8")
            fresh.replace(path)
    return known[key]


def _known(path: Path) -> dict[str, int]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in told.items() if isinstance(value, int)} if isinstance(told, dict) else {}


def processor() -> str:
    """Return the name of this machine's processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
