"""How soon the page of a large batch is usable, in headless Chromium.

Run as ``python -m benchmarks.report_page [--photos 2000]``. The photos are made up, with real thumbnails. The yardstick
is the same page with 60 photos, which is what it shows at a time.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page

from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.pages.report_page import Row, write_page
from tests.browser import browser

SHOWN = 60

SCROLLED = 2000
"""Milliseconds."""

FRAMES = """lasting => new Promise(done => {
    const gaps = []; let last = performance.now(); const end = last + lasting;
    const step = now => {
        gaps.push(now - last); last = now; scrollBy(0, 60);
        if (now < end) requestAnimationFrame(step); else done(gaps.slice(1));
    };
    requestAnimationFrame(step);
})"""


def rows(count: int, folder: Path) -> list[Row]:
    """Photos of a batch: most restored, some good already, a few failed."""
    rng = np.random.default_rng(0)
    before, after = folder / "before.jpg", folder / "after.jpg"
    for path in (before, after):
        Image.fromarray(rng.integers(0, 255, (96, 128, 3), np.uint8)).save(path)
    made = []
    for index in range(count):
        source, qf = before.with_name(f"IMG_{index:05}.jpg"), float(rng.integers(5, 96))
        if index % 50 == 0:
            made.append(Row(Outcome(source, None, Kind.FAILED, "the image data ends early"), None, None))
        elif qf >= 60:
            told = Outcome(source, None, Kind.SKIPPED, f"good already: QF {qf:.0f}", "", qf, qf - 2, 128, 96)
            made.append(Row(told, before, None))
        else:
            told = Outcome(
                source, after, Kind.RESTORED, f"header says QF {qf:.0f}", "", qf, qf - 2, 128, 96, "compact", 1.0
            )
            made.append(Row(told, before, after))
    return made


def measure(chromium: Browser, address: str) -> tuple[float, float, float, float]:
    """Milliseconds until cards are shown, until typing in the filter takes effect, and between frames (two values)."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    started = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(f"() => document.querySelectorAll('#cards li').length >= {SHOWN}")
    shown = time.perf_counter()
    gaps = page.evaluate(FRAMES, SCROLLED)
    filtered = _filter(page)
    page.close()
    return 1e3 * (shown - started), filtered, float(np.median(gaps)), float(np.percentile(gaps, 95))


def _filter(page: Page) -> float:
    started = time.perf_counter()
    page.locator("#words").fill("IMG_00031")
    page.wait_for_function("() => document.querySelectorAll('#cards li').length === 1")
    return 1e3 * (time.perf_counter() - started)


@click.command()
@click.option("--photos", default=2000, show_default=True)
@click.option("--runs", default=5, show_default=True)
def main(photos: int, runs: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as temporary, browser() as chromium:
        folder = Path(temporary)
        click.echo("| photos | usable after, ms | filter, ms | frame while scrolling, ms | 95 % within, ms |")
        click.echo("|---|---|---|---|---|")
        for count in (SHOWN, photos):
            address = folder / f"{count}.html"
            write_page(address, rows(count, folder))
            found = np.median([measure(chromium, address.as_uri()) for _ in range(runs)], axis=0)
            click.echo(f"| {count} | {' | '.join(f'{value:.0f}' for value in found)} |")


if __name__ == "__main__":
    main()
