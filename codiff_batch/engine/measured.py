"""What is measured once on a machine and kept, so that it always works in the same way."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import torch

from codiff_batch.models.plain import read_json


def remembered(what: str, measure: Callable[[], int], folder: Path | None = None, *, unkept: int | None = None) -> int:
    """Return a measurement's result, taken at most once for a processor, its threads and a version of torch.

    Args:
        what: the measurement's name.
        measure: takes it, in a fraction of a second.
        folder: where results are kept, instead of the user's cache directory.
        unkept: what holds where no result can be kept, and the next run might measure another one; None if that does
            no harm, and this run's result holds.
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
        if not _is_kept(known, path) and unkept is not None:
            return unkept
    return known[key]


def _is_kept(known: dict[str, int], path: Path) -> bool:
    """Write the results; return False, and leave nothing behind, if that is impossible."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(known, indent=2), encoding="utf-8")
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        return False
    return True


def _known(path: Path) -> dict[str, int]:
    try:
        return read_json(path, dict[str, int])
    except ValueError:
        return {}


def processor() -> str:
    """Return the name of this machine's processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
