"""The morning-after page: made by the program, and used in a browser from disk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from codiff_batch.batch.outcome import Outcome
from codiff_batch.pages.report_page import Row, write_page
from tests import warm
from tests.browser import keep
from tests.tiny_model import make_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pages")]  # a night's batch and a browser
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples/photos"
NASTY = "<script>alert(1)</script> & 'quotes' %41.jpg".replace("/", "\N{FRACTION SLASH}")


def program(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*warm.program(), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=None, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after a batch: two restored photos, a good one, a broken one."""
    folder = tmp_path_factory.mktemp("night")
    make_tiny_model(folder / "models/tiny")
    photos = folder / "photos/two words"
    photos.mkdir(parents=True)
    shutil.copy(EXAMPLES / "shrine-path-q10.jpg", photos / NASTY)
    shutil.copy(EXAMPLES / "oatmeal-q30-turned-gps.jpg", photos)
    shutil.copy(EXAMPLES / "strudel-fine-q95.jpg", photos)
    (photos / "broken.jpg").write_bytes((EXAMPLES / "shrine-path-q10.jpg").read_bytes()[:4000])
    options = ["--model", "fast", "--min-qf", "60"]
    done = program("photos", "-o", "out", "--report", "pages.html", *options, cwd=folder)
    assert done.returncode == 3, done.stderr
    return folder


def records(page: Path) -> list[dict[str, Any]]:
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert data is not None
    return json.loads(data.group(1))


def test_the_page_tells_of_every_photo_and_finds_its_files(night: Path) -> None:
    told = {record["name"]: record for record in records(night / "pages.html")}
    assert {name: record["outcome"] for name, record in told.items()} == {
        NASTY: "restored",
        "oatmeal-q30-turned-gps.jpg": "restored",
        "strudel-fine-q95.jpg": "skipped",
        "broken.jpg": "failed",
    }
    for record in told.values():
        for link in (record["before"], record["after"], *record["small"]):
            assert link is None or (night / urllib.parse.unquote(link)).is_file(), link
    assert told[NASTY]["change"] > 0
    assert told[NASTY]["after"].startswith("out/")
    assert told["broken.jpg"]["small"] == [None, None]
    turned = Image.open(night / told["oatmeal-q30-turned-gps.jpg"]["small"][0])
    stored = Image.open(EXAMPLES / "oatmeal-q30-turned-gps.jpg")
    assert (turned.width < turned.height) == (stored.width > stored.height) or turned.width == turned.height


def test_names_are_text_and_never_markup(night: Path) -> None:
    text = (night / "pages.html").read_text()
    assert "<script>alert" not in text
    assert text.count("<script") == 3


def test_the_journal_gives_the_same_page_again(night: Path) -> None:
    again = program("report", "out", "-o", "again.html", cwd=night)
    assert again.returncode == 0, again.stderr
    assert "4 photos" in again.stderr

    def core(page: str) -> list[tuple[Any, ...]]:
        keys = ("name", "before", "after", "outcome", "reason", "header", "estimate", "size", "change")
        return sorted((str([record[key] for key in keys]),) for record in records(night / page))

    assert core("again.html") == core("pages.html")


def test_in_place_the_backup_is_what_was_before(night: Path, tmp_path: Path) -> None:
    shutil.copytree(night / "models", tmp_path / "models")
    (tmp_path / "photos").mkdir()
    shutil.copy(EXAMPLES / "shrine-path-q10.jpg", tmp_path / "photos")
    options = ["--model", "tiny", "--models-dir", "models", "--in-place", "--backup", "kept"]
    done = program("photos", *options, "--report", "report.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path / "report.html")
    assert record["before"].startswith("kept/")
    assert record["after"] == "photos/shrine-path-q10.jpg"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "out", "-o", "page.txt"], ".json, .csv or .html"),
        (["report", "photos/two words"], "no journal"),
        (["photos", "--report", "page.xml"], ".json, .csv or .html"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(night: Path, arguments: list[str], words: str) -> None:
    told = program(*arguments, cwd=night)
    assert told.returncode in (2, 4)
    assert words in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1


class Opened:
    """A page in a browser, with what it asked for and complained of."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.set_default_timeout(10_000)
        page.goto(file.as_uri())


@pytest.fixture
def opened(chromium: Browser, night: Path) -> Iterator[Opened]:
    opened = Opened(chromium.new_page(viewport={"width": 1200, "height": 800}), night / "pages.html")
    yield opened
    assert opened.complaints == []
    assert all(url.startswith("file://") for url in opened.requests)


def test_failures_come_first_and_filters_narrow_down(opened: Opened) -> None:
    page = opened.page
    cards = page.locator("#cards li")
    expect(cards).to_have_count(4)
    expect(cards.first).to_contain_text("broken.jpg")
    expect(page.locator("#cards")).to_contain_text(NASTY)
    page.get_by_role("button", name="2 restored").click()
    expect(cards).to_have_count(2)
    page.locator("#high").fill("15")
    expect(cards).to_have_count(1)
    page.locator("#high").fill("100")
    page.get_by_role("button", name="4 photos").click()
    page.locator("#words").fill("strudel")
    expect(cards).to_have_count(1)
    page.locator("#words").fill("")
    page.locator("#sort").select_option("change")
    expect(cards.first).to_contain_text("change")
    expect(page.locator("#reasons")).to_contain_text("failed")
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    assert page.locator("#chart canvas").evaluate(drawn)
    keep(page, "report")


def test_before_and_after_lie_under_one_slider(opened: Opened) -> None:
    page = opened.page
    page.locator("#words").fill("script")
    page.locator("#cards button").focus()
    page.keyboard.press("Enter")
    viewer = page.locator("#viewer")
    expect(viewer).to_be_visible()
    before, after = page.get_by_role("img", name="before"), page.get_by_role("img", name="after")
    for picture in (before, after):
        expect(picture).to_have_js_property("naturalWidth", 512)

    def hidden() -> float:
        """How much of the photo before is cut off at its right, in percent."""
        return float(before.evaluate("image => parseFloat(getComputedStyle(image).clipPath.split(' ')[1])"))

    assert hidden() == pytest.approx(50, abs=0.5)
    page.locator("#slider").focus()
    page.keyboard.press(".")
    assert hidden() == pytest.approx(45, abs=0.5)
    keep(page, "before-after")
    page.keyboard.press("+")
    expect(page.locator("#zoom")).to_have_text("200 %")
    box = before.bounding_box()
    assert box is not None
    assert box["width"] == pytest.approx(1024, abs=1)
    page.mouse.move(400, 400)
    page.mouse.down()
    page.mouse.move(450, 430)
    page.mouse.up()
    boxes = [picture.bounding_box() for picture in (before, after)]
    assert boxes[0] == boxes[1]
    assert boxes[0] is not None
    assert boxes[0]["x"] == pytest.approx(box["x"] + 50, abs=1)
    page.keyboard.press("0")
    expect(page.locator("#zoom")).to_have_text("100 %")
    page.keyboard.press("m")
    expect(page.locator("#difference")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()


def test_arrow_keys_go_through_the_photos(opened: Opened) -> None:
    page = opened.page
    page.locator("#sort").select_option("name")
    page.locator("#cards button").first.click()
    title = page.locator("#title")
    expect(title).to_contain_text("script")
    page.keyboard.press("ArrowRight")
    expect(title).to_contain_text("broken.jpg")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(title).to_contain_text("strudel")


def test_a_folder_that_happens_to_have_the_name_loses_nothing(night: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "report-files/holiday.jpg"
    theirs.parent.mkdir()
    theirs.write_bytes(b"theirs")
    photo = Row.of(Outcome(EXAMPLES / "lavender-q20.jpg", None, "skipped", ""))
    write_page(tmp_path / "report.html", [photo, photo])
    write_page(tmp_path / "report.html", [photo])
    names = sorted(path.name for path in theirs.parent.iterdir())
    assert names == ["000000-before.webp", "holiday.jpg"]
    assert theirs.read_bytes() == b"theirs"


def test_a_link_of_the_folders_name_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere/000000-before.webp"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"theirs")
    (tmp_path / "report-files").symlink_to("elsewhere")
    write_page(tmp_path / "report.html", [Row.of(Outcome(EXAMPLES / "lavender-q20.jpg", None, "skipped", ""))])
    assert [path.read_bytes() for path in elsewhere.parent.iterdir()] == [b"theirs"]
    assert "lavender-q20.jpg" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_it_fits_a_phone_in_dark_and_light(chromium: Browser, night: Path, scheme: Any) -> None:
    page = chromium.new_page(viewport={"width": 360, "height": 700}, color_scheme=scheme)
    page.goto((night / "pages.html").as_uri())
    expect(page.locator("#cards li")).to_have_count(4)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    back = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    red = int(re.findall(r"\d+", back)[0])
    assert (red < 60) == (scheme == "dark")
    keep(page, f"phone-{scheme}")


def test_thousands_of_photos_are_paged(chromium: Browser, tmp_path: Path) -> None:
    rows = [
        Row.of(Outcome(Path(f"/gone/{i:05}.jpg"), None, "skipped", "good already", 80.0, 75.0, 10, 10))
        for i in range(10_000)
    ]
    write_page(tmp_path / "many.html", rows)
    page = chromium.new_page()
    page.goto((tmp_path / "many.html").as_uri())
    expect(page.locator("#cards li")).to_have_count(60)
    expect(page.locator("#page")).to_have_text("page 1 of 167")
    page.locator("#next").click()
    expect(page.locator("#cards li").first).to_contain_text("00060.jpg")
    page.locator("#words").fill("09999")
    expect(page.locator("#cards li")).to_have_count(1)
