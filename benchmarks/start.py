"""How long the program takes to start, compared with Python itself: ``python -m benchmarks.start [--runs 9]``.

The best of several interleaved runs, so that other load on the machine affects all alike. Compare ratios, not
seconds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

PROGRAM = [sys.executable, "-m", "codiff_batch"]


def commands(folder: Path) -> dict[str, list[str]]:
    """Timed commands by title."""
    photo = folder / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3)).astype(np.uint8)).save(photo, quality=20)
    restore = [*PROGRAM, str(photo), "-q", "--overwrite", "--model", "fast", "-o", str(folder / "out")]
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "--version": [*PROGRAM, "--version"],
        "--help": [*PROGRAM, "--help"],
        "inspect, decided by the header": [*PROGRAM, "inspect", str(photo)],
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        "one small photo restored": restore,
    }


def seconds(command: list[str]) -> float:
    """Time of one run."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


@click.command()
@click.option("--runs", default=9, show_default=True)
def main(runs: int) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as name:
        best: dict[str, float] = {}
        for _ in range(runs):
            for title, command in commands(Path(name)).items():
                best[title] = min(best.get(title, float("inf")), seconds(command))
    plain, torch = best["python -c pass"], best["python -c 'import torch'"]
    click.echo(f"{'':<34}{'seconds':>9}{'beside python':>15}{'beside torch':>14}")
    for title, time_taken in best.items():
        click.echo(f"{title:<34}{time_taken:>9.3f}{time_taken / plain:>15.1f}{time_taken / torch:>14.2f}")


if __name__ == "__main__":
    main()
