"""``codiff-batch compare``: pictures side by side."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests import warm
from tests.browser import keep

pytestmark = pytest.mark.xdist_group("pages")  # one process has the browser

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "examples/photos/shrine-path-q10.jpg"


def program(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*warm.program(), "compare", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """An original, a noisy copy, and a noisier one with a name to be careful with."""
    original = np.asarray(Image.open(PHOTO).crop((0, 0, 200, 120)))
    rng = np.random.default_rng(0)
    Image.fromarray(original).save(tmp_path / "original.png")
    for name, strength in (("a.png", 4), ("<b>&#%.png", 16)):
        noise = rng.integers(-strength, strength + 1, original.shape)
        Image.fromarray((original + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.slow
@pytest.mark.slow
def test_both_are_measured_against_the_original(pictures: Path) -> None:
    told = program("a.png", "<b>&#%.png", "--original", "original.png", cwd=pictures)
    assert told.returncode == 0, told.stderr
    psnr = {name: float(value) for name, value in re.findall(r"(\S+): PSNR ([\d.]+) dB, SSIM", told.stdout)}
    pixels = [np.asarray(Image.open(pictures / name), float) for name in ("a.png", "original.png")]
    expected = 10 * np.log10(255**2 / np.square(pixels[0] - pixels[1]).mean())
    assert psnr["a.png"] == pytest.approx(expected, abs=0.01)
    assert psnr["<b>&#%.png"] < psnr["a.png"] - 8


@pytest.mark.slow
def test_without_an_original_the_second_is_measured_against_the_first(pictures: Path) -> None:
    assert "equal" in program("a.png", "a.png", cwd=pictures).stdout


@pytest.mark.slow
@pytest.mark.slow
def test_one_picture_holds_them_all(pictures: Path) -> None:
    assert program("a.png", "original.png", "-o", "all.png", cwd=pictures).returncode == 0
    with Image.open(pictures / "all.png") as sheet:
        assert sheet.width == 3 * 200 + 2 * 8
        assert np.array_equal(sheet.crop((0, 34, 200, 154)), Image.open(pictures / "a.png"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.png", "gone.png"], "gone.png"),
        (["a.png", "small.png"], "differ in size: 10x10, 200x120"),
        (["a.png", "text.png"], "cannot be read as a picture: empty, damaged, or of an unknown kind"),
        (["a.png", "deep.png"], "more than 8 bits"),
        (["a.png", "float.tif"], "more than 8 bits"),
        (["opaque.png", "clear.png"], "clear.png: cannot be read as a picture: parts of it are transparent"),
        (["a.png", "giant.png"], "over the limit of 1000 MB"),
        (["a.png", "a.png", "-o", "x.gif"], ".html or .png"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(pictures: Path, arguments: list[str], words: str) -> None:
    Image.new("RGB", (10, 10)).save(pictures / "small.png")
    Image.fromarray(np.full((120, 200), 30_000, np.uint16)).save(pictures / "deep.png")
    Image.fromarray(np.full((120, 200), 30_000, np.float32)).save(pictures / "float.tif")
    for name, alpha in (("opaque", 255), ("clear", 254)):
        Image.new("RGBA", (200, 120), (9, 9, 9, alpha)).save(pictures / f"{name}.png")
    (pictures / "text.png").write_text("no picture")
    (pictures / "giant.png").touch()
    os.truncate(pictures / "giant.png", 1 << 42)
    told = program(*arguments, cwd=pictures)
    assert told.returncode != 0
    assert words in told.stderr
    assert "Traceback" not in told.stderr
    assert not (pictures / "compare.html").exists()


@pytest.mark.parametrize("output", ["a.png", "../{}/a.png", "link.png", "hard.png"])
@pytest.mark.parametrize("arguments", [["a.png", "original.png"], ["original.png", "a.png"]])
def test_a_comparison_never_replaces_what_it_compares(pictures: Path, output: str, arguments: list[str]) -> None:
    (pictures / "link.png").symlink_to("a.png")
    (pictures / "hard.png").hardlink_to(pictures / "a.png")
    before = (pictures / "a.png").read_bytes()
    for more in ([], ["--original", "a.png"]):
        told = program(*arguments, *more, "-o", output.format(pictures.name), cwd=pictures)
        assert (told.returncode, "one of the pictures to compare" in told.stderr) == (2, True)
    assert (pictures / "a.png").read_bytes() == before


@pytest.mark.slow
def test_the_pictures_of_a_page_move_together(chromium: Browser, pictures: Path) -> None:
    program("a.png", "<b>&#%.png", "-o", "what? #1.html", cwd=pictures)
    complaints: list[str] = []
    page = chromium.new_page(viewport={"width": 1300, "height": 700})
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto((pictures / "what? #1.html").as_uri())
    assert page.locator("img").count() == 3
    assert page.evaluate("() => [...document.images].every(image => image.naturalWidth === 200)")
    assert page.locator("figcaption b").nth(1).inner_text() == "<b>&#%.png"

    def offsets() -> list[list[float]]:
        return page.evaluate(
            """() => [...document.images].map(image => {
                const [inner, outer] = [image, image.closest('.stage')].map(e => e.getBoundingClientRect());
                return [inner.x - outer.x, inner.y - outer.y, inner.width];
            })"""
        )

    before = offsets()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.mouse.move(300, 400)
    page.mouse.down()
    page.mouse.move(320, 410)
    page.mouse.up()
    after = offsets()
    keep(page, "comparison")
    assert after[0] == after[1]
    assert after[0][2] == 400
    assert after[0][0] == pytest.approx(before[0][0] - 100 + 40 + 20, abs=1)
    assert not complaints
