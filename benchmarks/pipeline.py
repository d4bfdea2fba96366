"""What overlapping gains: the pipeline against its parts run one after another, and judging against ImageMagick.

Run as ``python -m benchmarks.pipeline [--photos 24] [--judged 2000] [--good 200] [--device cpu]``. It works in a
temporary folder, on copies of ``examples/photos`` and on good photos of 12 megapixels that it makes of one of them.
Compare ratios, not seconds.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from benchmarks import start
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.pipeline import LazyRestorer, run_pipeline
from codiff_batch.batch.plan import Task, plan
from codiff_batch.engine.photo import Decoded, judged
from codiff_batch.engine.settling import settled
from codiff_batch.files.atomic import write_atomically
from codiff_batch.jpeg import JpegPhoto, encode_jpeg
from codiff_batch.settings import Judging, Settings

EXAMPLES = Path(__file__).resolve().parents[1] / "examples/photos"


class Parts:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def copies(folder: Path, count: int) -> Path:
    """A folder of ``count`` photos."""
    folder.mkdir()
    sources = sorted(EXAMPLES.glob("*.jpg"))
    for index in range(count):
        shutil.copy(sources[index % len(sources)], folder / f"{index:05}.jpg")
    return folder


def good_ones(folder: Path, count: int) -> Path:
    """A folder of good photos of 12 megapixels."""
    folder.mkdir()
    with Image.open(EXAMPLES / "strudel-fine-q95.jpg") as image:
        tile = np.asarray(image)
    mirrored = np.block([[[tile], [tile[:, ::-1]]], [[tile[::-1]], [tile[::-1, ::-1]]]])
    repeats = 3000 // len(mirrored) + 1, 4000 // mirrored.shape[1] + 1, 1
    file = io.BytesIO()
    Image.fromarray(np.tile(mirrored, repeats)[:3000, :4000]).save(file, "JPEG", quality=92)
    for index in range(count):
        (folder / f"{index:05}.jpg").write_bytes(file.getvalue())
    return folder


def show_judging(source: Path, *options: str) -> None:
    """Judge a folder's photos from the command line, and ask ImageMagick for their quality factors."""
    paths = sorted(map(str, source.iterdir()))
    command = [*start.PROGRAM, str(source), "--dry-run", "-q", *options]
    wall = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    show(f"judging {len(paths)} files", wall, f"{len(paths) / wall:.1f} files/s")
    if identify := shutil.which("identify"):
        for title, flags in {"which decodes": (), "headers only": ("-ping",)}.items():
            command = [identify, *flags, "-format", "%Q\n", *paths]
            seconds = timed(lambda command=command: subprocess.run(command, check=True, capture_output=True))
            show(f"identify {' '.join(flags)}", seconds, f"{len(paths) / seconds:.1f} files/s, {title}")


def one_after_the_other(tasks: list[Task], restorer: Any) -> dict[str, float]:
    """Every photo's whole path with nothing overlapping."""
    part = Parts()
    for task in tasks:
        with part("read and decode"):
            photo = JpegPhoto.open(task.source)
            pixels = photo.pixels()
        with part("CaVE"):
            decoded = Decoded.of(photo, pixels)
            seen = judged(decoded, restorer.embed(pixels), Settings(), None)
        with part("network"):
            levels = restorer.levels_of(seen.request(Settings()))
        with part("constrain"):
            restored = settled(seen, levels, Settings()).pixels
        with part("encode and write"):
            write_atomically(task.target, encode_jpeg(restored, photo, note="codiff-batch benchmark"), like=task.source)
    return part.seconds


def timed(work: Callable[[], Any]) -> float:
    """Wall-clock seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(name: str, seconds: float, note: str = "") -> None:
    """One row."""
    click.echo(f"{name:<34}{seconds:>9.2f} s  {note}")


@click.command()
@click.option("--photos", default=24, show_default=True, help="Photos to restore.")
@click.option("--judged", default=2000, show_default=True, help="Photos to judge.")
@click.option("--good", default=200, show_default=True, help="Good photos of 12 megapixels to judge.")
@click.option("--device", default="auto", show_default=True)
@click.option("--jobs", default=2, show_default=True)
def main(photos: int, judged: int, good: int, device: str, jobs: int) -> None:
    """Print all tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = copies(folder / "photos", photos)
        options = BatchOptions(
            (source,), output=folder / "one", devices=(device,), jobs=jobs, judging=Judging(min_qf=100)
        )
        lazy = LazyRestorer(options)
        restorer = lazy()
        list(run_pipeline(options, plan(options)[:2], restorer=lazy))  # warm up
        shutil.rmtree(folder / "one")
        parts = one_after_the_other(plan(options), restorer)
        total = sum(parts.values())
        for part, seconds in parts.items():
            show(part, seconds, f"{seconds / total:.0%}")
        show("one after another", total)
        options = BatchOptions(
            (source,), output=folder / "two", devices=(device,), jobs=jobs, judging=Judging(min_qf=100)
        )
        before = restorer.busy_seconds
        outcomes: list[Any] = []
        wall = timed(lambda: outcomes.extend(run_pipeline(options, plan(options), restorer=lazy)))
        megapixels = sum(outcome.megapixels for outcome in outcomes)
        show("pipeline", wall, f"{wall / total:.2f} of the parts' sum")
        busy = (restorer.busy_seconds - before) / wall
        click.echo(f"device busy {busy:.0%}, {len(outcomes) / wall:.2f} photos/s, {megapixels / wall:.2f} megapixels/s")

        usual = ("--device", device, "--jobs", str(jobs))
        click.echo("\nSmall photos, with the program's start:")
        show_judging(copies(folder / "many", judged), *usual)
        click.echo("\nGood photos of 12 megapixels, with the program's start:")
        show_judging(good_ones(folder / "good", good), *usual)


if __name__ == "__main__":
    main()
