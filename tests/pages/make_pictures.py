"""Takes the pictures of the preview in the documentation, of copies of the example photos.

Run ``python -m tests.pages.make_pictures FOLDER`` after the page or the bundled model changed. FOLDER is made for the
photos; the page shows its name, such as ``/home/me/holiday``.
"""

from __future__ import annotations

import io
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page

from codiff_batch.cli.main import main as codiff_batch
from tests.browser import browser

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs/images"
PHOTOS = 160
DESK, PHONE = (1280, 880), (360, 780)


def main(folder: Path) -> None:
    """Write all pictures."""
    folder.mkdir(parents=True)
    _fill(folder)
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "page.html"
        arguments = ["--model", "fast,compact", "--texture", "0,0.7,1", "-o", str(page)]
        with suppress(SystemExit):
            codiff_batch(["preview", str(folder), *arguments])
        with browser() as chromium:
            desk = chromium.new_page(viewport={"width": DESK[0], "height": DESK[1]})
            desk.goto(page.as_uri())
            desk.locator("#strip button").nth(11).wait_for()
            _keep(desk, "preview")
            again = _saved_again(desk)
            desk.keyboard.press("3")
            desk.locator("#zooms button").last.click()
            desk.locator("#strip").evaluate("strip => scrollBy(0, strip.getBoundingClientRect().top - 50)")
            _keep(desk, "preview-viewer")
            phone = chromium.new_page(
                viewport={"width": PHONE[0], "height": PHONE[1]}, device_scale_factor=2, color_scheme="dark"
            )
            phone.goto(page.as_uri())
            phone.locator("#strip button").nth(again).click()
            phone.keyboard.press("3")
            phone.locator("#strip").evaluate("strip => scrollBy(0, strip.getBoundingClientRect().top - 4)")
            _keep(phone, "preview-phone")


def _fill(folder: Path) -> None:
    """Crops of the examples at many qualities, every fourth of them saved again at a high one."""
    rng = np.random.default_rng(1)
    *crushed, fine = (Image.open(path).convert("RGB") for path in sorted((ROOT / "examples/photos").glob("*.jpg")))
    for number in range(PHOTOS):
        is_fine = number % 3 == 0
        photo = fine if is_fine else crushed[number % len(crushed)]
        left, top = (int(rng.integers(0, 1 + side // 4)) for side in photo.size)
        part = photo.crop((left, top, left + photo.width * 3 // 4, top + photo.height * 3 // 4))
        quality = int(rng.integers(45, 97) if is_fine else rng.integers(8, 60))
        again = number % 4 == 3
        data = io.BytesIO()
        part.save(data, "JPEG", quality=min(quality, 45) if again else quality)
        if again:
            Image.open(data).save(data := io.BytesIO(), "JPEG", quality=int(rng.integers(85, 98)))
        name = f"IMG_{4200 + number}.jpg" if again or quality > 60 else f"WA{number:04}.jpg"
        (folder / name).write_bytes(data.getvalue())


def _saved_again(page: Page) -> int:
    """Look at the worst photo that was saved again; return its place."""
    buttons = page.locator("#strip button")
    for index in range(buttons.count()):
        buttons.nth(index).click()
        if "saved again" in page.locator("#facts").inner_text():
            return index
    raise LookupError("no photo that was saved again is shown")


def _keep(page: Page, name: str) -> None:
    page.wait_for_timeout(500)
    page.screenshot(path=PICTURES / f"{name}.jpg", type="jpeg", quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
