"""How long a preview takes, and how fast its page responds.

Run as ``python -m benchmarks.preview [--photos 1000]``. The photos are small and drawn, and their files decide. The
yardstick for the time is what the network alone takes for the same parts in this very run; for the page it is the
screen's 60 frames a second.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from benchmarks import start
from codiff_batch import Restorer
from codiff_batch.pages.files import render
from tests.browser import browser
from tests.photos import jpeg, scene, write

TEXTURES = (0.0, 0.5, 1.0)
SHOWN = 12
SIDES = (640, 480)
"""Of a photo."""

SIDE = 384
"""Of a part with its surroundings."""

DRAGGED = 120
"""Frames."""

DRAG = """count => new Promise(done => {
    const gaps = []; let last = performance.now(), value = 0;
    const step = now => {
        gaps.push(now - last); last = now; moveLine(value = (value + 1) % 101);
        if (gaps.length < count) requestAnimationFrame(step); else done(gaps.slice(1));
    };
    requestAnimationFrame(step);
})"""


def preview(folder: Path, page: Path) -> tuple[float, float]:
    """Seconds that the program takes, and those of them that its threads compute, together."""
    options = ["--model", "compact", "--texture", ",".join(map(str, TEXTURES)), "--photos", str(SHOWN), "-q"]
    started = time.perf_counter()
    command = [*start.PROGRAM, "preview", str(folder), "-o", str(page), *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def network_alone(parts: int) -> float:
    """Seconds that the network takes for so many parts of the same size, texture by texture."""
    restorer = Restorer.load("compact", "cpu")
    pixels = np.asarray(scene(SIDE, SIDE))
    embedding = restorer.embed(pixels)
    restorer.restore(pixels, embedding=embedding)
    started = time.perf_counter()
    for texture in TEXTURES:
        for _ in range(parts):
            restorer.restore(pixels, texture=texture, embedding=embedding)
    return time.perf_counter() - started


def frames(page: Path, folder: Path, count: int) -> tuple[float, float]:
    """Milliseconds between frames while the line moves over so many photos: median, and 95 % within."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    data, rng = json.loads(found[1]), np.random.default_rng(0)
    photo = {"folder": "/x", "size": [4000, 3000], "left": "", "link": "x.jpg"}
    for number in range(count - len(data["photos"])):
        header = float(rng.integers(5, 99))
        estimate = header * rng.random()
        told = {"name": f"{number}.jpg", "header": header, "estimate": estimate, "quality": estimate}
        data["photos"].append({**photo, **told})
    many = folder / "many.html"
    many.write_text(render("preview.html", "", data))
    with browser() as chromium:
        shown = chromium.new_page(viewport={"width": 1360, "height": 900})
        shown.goto(many.as_uri())
        gaps = shown.evaluate(DRAG, DRAGGED)
    return float(np.median(gaps)), float(np.percentile(gaps, 95))


@click.command()
@click.option("--photos", default=1000, show_default=True)
@click.option("--listed", default=5000, show_default=True, help="Photos on the page whose line is moved.")
def main(photos: int, listed: int) -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(photos):
            write(folder / f"photos/{number:05}.jpg", jpeg(20 + number % 38, image=scene(*SIDES, seed=number)))
        page = folder / "page.html"
        shown = min(SHOWN, photos)
        (taken, computed), network = preview(folder / "photos", page), network_alone(shown)
        what = f"{photos} photos judged, {shown} restored under {len(TEXTURES)} textures"
        click.echo(f"{what}: {taken:.1f} s, {computed:.1f} s of processor, ", nl=False)
        click.echo(f"{taken / network:.2f} times what the network alone takes for these parts ({network:.1f} s)")
        median, most = frames(page, folder, listed)
        click.echo(f"moving the line over {listed} photos: {median:.0f} ms a frame, 95 % within {most:.0f} ms")


if __name__ == "__main__":
    main()
