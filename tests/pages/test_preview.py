"""``codiff-batch preview``: made by the program, and used in a browser from disk."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageCms
from playwright.sync_api import Browser, Page, expect

from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.cli.main import main
from codiff_batch.engine.judge import judge_by_header
from codiff_batch.pages.files import render
from codiff_batch.pages.thumbnails import upright
from codiff_batch.preview.box import Box
from codiff_batch.preview.judging import Photo
from codiff_batch.preview.page import frame
from tests import warm
from tests.browser import keep
from tests.photos import jpeg, scene, write

expect.set_options(timeout=20_000)  # the browser shares its processors with the network
pytestmark = pytest.mark.xdist_group("pages")  # one process has the browser, and makes the pages that all look at

NAMES = [
    b"two words.jpg",
    b'it\'s "quoted" & $HOME.jpg',
    b"line\nbreak.jpg",
    b"caf\xe9.jpg",
    b"<script>alert(1)<!--.jpg",
]
FOLDER = b"a 'folder' of \"mine\" $HOME\n<b>\xe9"
"""Everything about it is hostile, its bytes included."""
TEXTURES = ("0", "0.5", "1")


class Ended(NamedTuple):
    """How the program ended and what it said."""

    returncode: int
    stderr: str


def program(*arguments: object, cwd: Path) -> Ended:
    words = [os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in arguments]
    written = io.BytesIO()
    said = io.TextIOWrapper(written, write_through=True)
    with chdir(cwd), redirect_stderr(said), pytest.raises(SystemExit) as ended:
        main(words, prog_name="codiff-batch")
    return Ended(int(ended.value.code or 0), written.getvalue().decode(errors="replace"))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a preview of a folder: photos of many qualities, a broken one, a signed one."""
    place = tmp_path_factory.mktemp("before")
    photos = place / os.fsdecode(FOLDER)
    for number, quality in enumerate((8, 20, 35, 50, 57, 63, 72, 85, 95)):
        write(photos / f"q{quality:02}.jpg", jpeg(quality, image=scene(96, 64, seed=number)))
    again = Image.open(photos / "q08.jpg")
    write(photos / "again/saved-again.jpg", jpeg(95, image=again.copy()))
    for number, name in enumerate(NAMES):
        write(photos / os.fsdecode(name), jpeg(15 + number, image=scene(80, 120, seed=20 + number)))
    write(photos / "broken.jpg", jpeg(30)[:400])
    write(
        photos / "restored before.jpg", jpeg(95, subsampling="4:4:4", comment=b"codiff-batch 0.1.0 model=compact qf=10")
    )
    made = program(
        "preview", FOLDER, "-o", "page.html", "--model", "fast,compact", "--photos", 8, "--precision", "fp32", cwd=place
    )
    assert made.returncode == 3, made.stderr  # one photo is broken
    return place


def data(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def dry_run(before: Path, line: int, *options: object) -> list[dict[str, Any]]:
    report = before / "report.json"
    program(FOLDER, "--dry-run", "-q", "--min-qf", line, "--report", report, *options, cwd=before)
    return [row for row in json.loads(report.read_text()) if row["outcome"] == "would be restored"]


@pytest.fixture
def page(chromium: Browser, before: Path) -> Iterator[Page]:
    page = chromium.new_page(viewport={"width": 1360, "height": 1000})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    page.set_default_timeout(20_000)
    page.goto((before / "page.html").as_uri())
    yield page
    assert complaints == []
    assert all(url.startswith(("file://", "data:")) for url in requests)


def drag_to(page: Page, quality: float) -> None:
    """Drag the histogram's line as a hand would."""
    box = page.locator("#histogram canvas").bounding_box()
    assert box is not None
    now = float(page.locator("#line").input_value())
    across = [box["x"] + 12 + (box["width"] - 24) * value / 101 for value in (now, quality)]
    page.mouse.move(across[0], box["y"] + 60)
    page.mouse.down()
    page.mouse.move((across[0] + across[1]) / 2, box["y"] + 80)
    page.mouse.move(across[1], box["y"] + 60)
    page.mouse.up()


@pytest.mark.slow
def test_a_dragged_line_counts_what_a_dry_run_would_restore(page: Page, before: Path) -> None:
    for line in (40, 58, 96):
        drag_to(page, line)
        expect(page.locator("#line")).to_have_value(str(line))
        rows = dry_run(before, line)
        size = sum(row["width"] * row["height"] for row in rows) / 1e6
        promise = page.locator("#promise")
        expect(promise).to_contain_text(f"{len(rows)} of 17 photos restored · {size:.1f} megapixels")
        expect(page.locator("#totals .is-restored b")).to_have_text(str(len(rows)))
        assert page.locator("#line").get_attribute("aria-valuetext").startswith(f"{line}: {len(rows)} of 17")
    assert len(rows) > 12
    page.locator("#line").focus()
    page.keyboard.press("Home")
    expect(page.locator("#promise")).to_contain_text("0 of 17 photos restored")


@pytest.mark.slow
@pytest.mark.parametrize(("line", "restored"), [(60, 0), (61, 1)])
def test_a_photo_exactly_as_good_as_the_line_is_left_alone(
    chromium: Browser, tmp_path: Path, line: int, restored: int
) -> None:
    photo = {"name": "a.jpg", "folder": "in", "header": 60, "estimate": 60, "quality": 60, "size": [8, 8], "left": ""}
    command = {"start": "codiff-batch in", "settings": [], "end": ""}
    told = {"minQf": line, "paths": ["in"], "photos": [photo], "judging": 1, "settings": [], "samples": []}
    told |= {"shell": "posix", "commands": {"posix": command}, "stdin": False}
    (tmp_path / "page.html").write_text(render("preview.html", "", told))
    page = chromium.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    expect(page.locator("#promise")).to_contain_text(f"{restored} of 1 photo restored")
    judged = Photo(Outcome(Path("a.jpg"), None, Kind.WOULD_BE_RESTORED, "", header_qf=60), 60)
    assert judged.is_below(line) == (judge_by_header(60, line) is not None) == bool(restored)


@pytest.mark.slow
def test_the_line_can_be_dragged_upwards_in_the_plot_as_well(page: Page) -> None:
    box = page.locator("#plot canvas").bounding_box()
    assert box is not None
    high = box["height"] - 10 - 40
    x, y = box["x"] + box["width"] - 40, box["y"] + 10
    page.mouse.move(x, y + high * 0.4)
    page.mouse.down()
    page.mouse.move(x, y + high * 0.7)
    page.mouse.up()
    expect(page.locator("#line")).to_have_value("30")


@pytest.mark.slow
def test_a_line_below_what_was_looked_at_gives_a_range(chromium: Browser, before: Path) -> None:
    made = program("preview", FOLDER, "-o", "cheap.html", "--model", "fast", "--photos", 1, "--no-look", cwd=before)
    assert made.returncode == 3, made.stderr
    page = chromium.new_page()
    page.goto((before / "cheap.html").as_uri())
    expect(page.locator("#promise")).to_contain_text(f"{len(dry_run(before, 60))} of 17 photos restored")
    page.locator("#line").fill("40")
    said = re.match(r"(\d+) to (\d+) of 17", page.locator("#promise").inner_text())
    assert said is not None
    assert int(said[1]) <= len(dry_run(before, 40)) <= int(said[2])
    expect(page.locator("#unseen")).to_contain_text("--look")
    page.locator("#line").fill("0")
    expect(page.locator("#promise")).to_contain_text("0 of 17 photos restored")  # whatever the pixels are like


@pytest.mark.slow
def test_the_time_is_that_of_the_judging_and_of_what_would_be_restored(page: Page, before: Path) -> None:
    told = data(before / "page.html")
    page.locator("#line").fill("100")
    below = [photo for photo in told["photos"] if photo["quality"] is not None and photo["quality"] < 100]
    megapixels = sum(photo["size"][0] * photo["size"][1] for photo in below) / 1e6
    for number, pace in enumerate(told["settings"]):
        assert pace["perMegapixel"] > 0 < pace["perPhoto"]
        page.keyboard.press(str(number + 1))
        seconds = told["judging"] + len(below) * pace["perPhoto"] + megapixels * pace["perMegapixel"]
        words = page.evaluate("seconds => duration(seconds)", seconds)
        expect(page.locator("#promise")).to_contain_text(f"about {words}")


@pytest.mark.slow
def test_the_copied_command_gives_what_the_page_promised(chromium: Browser, before: Path, tmp_path: Path) -> None:
    restored = before / f"{os.fsdecode(FOLDER)}-restored"
    context = chromium.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto((before / "page.html").as_uri())
    page.locator("#line").fill("58")
    page.keyboard.press("3")
    page.locator("#copy").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('codiff-batch')")
    line = page.evaluate("() => navigator.clipboard.readText()")
    promised = re.match(r"(\d+) of", page.locator("#promise").inner_text())
    assert promised is not None
    assert line.endswith("--min-qf 58 --model compact --texture 0.7 --precision fp32")
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env={**os.environ, "PATH": warm.path()}, capture_output=True
    )
    assert f"{promised[1]} restored".encode() in done.stderr, done.stderr
    assert len(list(restored.rglob("*.jpg"))) == int(promised[1]) == len(dry_run(before, 58))
    shown = data(before / "page.html")
    names = {shown["photos"][s["photo"]]["name"]: s for s in shown["samples"]}
    name = next(name for name in ("q20.jpg", "q35.jpg", "q50.jpg", "q57.jpg") if name in names)
    sample = names[name]
    encoded = Image.open(io.BytesIO(jpeg(95, image=picture_of(sample["versions"][2]["picture"]), subsampling="4:4:4")))
    written = np.asarray(Image.open(restored / name), int)
    assert np.abs(np.asarray(encoded, int) - written).mean() < 0.1
    assert np.abs(np.asarray(picture_of(sample["before"]), int) - written).mean() > 1
    assert len({version["picture"] for version in sample["versions"][1:]}) == 3  # each amount of texture


@pytest.mark.slow
@pytest.mark.parametrize("null", [False, True])
def test_the_command_for_a_list_takes_the_same_photos_from_any_folder(tmp_path: Path, null: bool) -> None:
    place = tmp_path / "it's here"
    names = ["a/one.jpg", "b/one.jpg", *(["two\nlines.jpg"] if null else [])]
    for name in (*names, "not listed.jpg"):
        write(place / name, jpeg(20))
    (place / "the list").write_text(("\0" if null else "\n").join(names))
    made = program("preview", "--files-from", "the list", *["-0"] * null, "--model", "fast", cwd=place)
    assert made.returncode == 0, made.stderr
    pieces = data(place / "preview.html")["commands"]["posix"]
    line = f"{pieces['start']} --min-qf 60 {pieces['settings'][0]} {pieces['end']}"
    done = subprocess.run(
        ["sh", "-c", line], cwd="/", env={**os.environ, "PATH": warm.path()}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    restored = tmp_path / "it's here-restored"
    assert sorted(str(file.relative_to(restored)) for file in restored.rglob("*.jpg")) == sorted(names)


@pytest.mark.slow
def test_the_command_repeats_every_option_that_decides_and_pictures_keep_their_profile(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write(tmp_path / "in/photo.jpg", jpeg(20, icc_profile=profile))
    write(tmp_path / "in/left out.jpg", jpeg(20))
    asked = ["--exclude", "left*", "--device", "cpu", "--precision", "fp32", "--models-dir", "mine"]
    asked += ["--types", "png,jpeg", "--again", "--include-signed", "--max-megapixels", "20", "--max-megabytes", "50.5"]
    (tmp_path / "mine").mkdir()
    assert program("preview", "in", *asked, "--model", "fast", "--strength", "0.5,1", cwd=tmp_path).returncode == 0
    told = data(tmp_path / "preview.html")
    assert [photo["name"] for photo in told["photos"]] == ["photo.jpg"]
    pieces = told["commands"]["posix"]
    assert shlex.split(pieces["start"]) == ["codiff-batch", str(tmp_path / "in")]
    assert shlex.split(pieces["end"]) == [
        "--exclude=left*", "--device", "cpu", "--precision", "fp32",
        "--types", "jpeg,png", "--again", "--include-signed", "--models-dir", str(tmp_path / "mine"),
        "--max-megapixels", "20", "--max-megabytes", "50.5",
    ]  # fmt: skip
    assert not told["stdin"]
    (sample,) = told["samples"]
    half, full = sample["versions"]
    for address in (sample["whole"], sample["before"], half["picture"]):
        assert picture_of(address).info["icc_profile"] == profile
    assert half["mean"] == pytest.approx(full["mean"] / 2, rel=0.3)


@pytest.mark.slow
def test_pictures_that_were_jpegs_once_are_judged_and_shown_as_a_run_would(tmp_path: Path, run: Any) -> None:
    crushed = Image.open(io.BytesIO(jpeg(10, image=scene(208, 160)))).convert("RGB")
    (tmp_path / "in").mkdir()
    crushed.crop((3, 5, 208, 160)).save(tmp_path / "in/cropped.png")
    (tmp_path / "in/broken.png").write_bytes((tmp_path / "in/cropped.png").read_bytes()[:4000])
    write(tmp_path / "in/photo.jpg", jpeg(20))
    asked = [tmp_path / "in", "--types", "png", "--model", "fast", "-q"]
    assert run("preview", *asked, "-o", tmp_path / "page.html").code == 3
    assert run(*asked, "--dry-run", "--report", tmp_path / "report.json").code == 3
    told = data(tmp_path / "page.html")
    rows = {Path(row["source"]).name: row["outcome"] for row in json.loads((tmp_path / "report.json").read_text())}
    assert rows == {"broken.png": "failed", "cropped.png": "would be restored"}
    left = {
        photo["name"]: photo["left"] or "would be restored" for photo in told["photos"] if (photo["quality"] or 0) < 60
    }
    assert left == rows
    (sample,) = told["samples"]
    assert sample["versions"][0]["mean"] > 1
    shown = np.asarray(picture_of(sample["before"]))
    np.testing.assert_array_equal(shown, np.asarray(crushed)[5:, 3:][: shown.shape[0], : shown.shape[1]])


@pytest.mark.slow
def test_a_list_from_standard_input_has_to_be_given_again(tmp_path: Path) -> None:
    write(tmp_path / "photo.jpg", jpeg(20))
    command = [*warm.program(), "preview", "--files-from", "-", "--model", "fast"]
    subprocess.run(command, cwd=tmp_path, input=b"photo.jpg\n", check=True, capture_output=True)
    told = data(tmp_path / "preview.html")
    assert told["stdin"]
    assert "--files-from -" in told["commands"]["posix"]["start"]


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_the_frame_lies_where_the_shown_part_is_in_the_upright_picture(orientation: int | None) -> None:
    box, height, width = Box(10, 30, 20, 50), 60, 100
    pixels = np.zeros((height, width), np.uint8)
    pixels[box.place] = 255
    turned = upright(Image.fromarray(pixels), orientation)
    left, top, right, bottom = turned.getbbox()
    expected = [left / turned.width, top / turned.height, (right - left) / turned.width, (bottom - top) / turned.height]
    assert frame(box, width, height, orientation) == pytest.approx(expected, abs=1e-4)


def picture_of(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))


@pytest.mark.slow
def test_every_shell_gets_the_same_arguments_in_its_own_quotes(page: Page) -> None:
    expect(page.locator("#command")).to_contain_text("$(printf '")
    page.locator("#shell").select_option("powershell")
    expect(page.locator("#command")).to_contain_text("a ''folder'' of")
    expect(page.locator("#command")).to_contain_text("--min-qf 60 --model fast")


@pytest.mark.slow
def test_names_are_text_and_never_markup(page: Page, before: Path) -> None:
    text = (before / "page.html").read_text()
    assert text.count("<script") == 3
    assert "alert(1)<" not in text
    page.locator("#order").select_option("name")
    rows = page.locator("#rows")
    for name in ("<script>alert(1)<!--.jpg", "line\\nbreak.jpg", "caf\\udce9.jpg", 'it\'s "quoted" & $HOME.jpg'):
        page.locator("#words").fill(name[:6])
        expect(rows).to_contain_text(name)
    page.locator("#words").fill("")
    page.locator("#which").select_option("failed")
    expect(rows).to_contain_text("broken.jpg")
    page.locator("#which").select_option("skipped")
    expect(rows).to_contain_text("restored before")


@pytest.mark.slow
def test_settings_are_switched_at_the_same_place_by_keys(page: Page) -> None:
    stage, settings = page.locator("#stage"), page.locator("#settings button")
    expect(settings).to_have_text(["fast 1", "compact, texture 0 2", "compact, texture 0.7 3", "compact, texture 1 4"])

    def seen() -> dict[str, Any]:
        return dict(
            stage.evaluate(
                """stage => {
                    const images = [...stage.querySelectorAll("img:not(.left)")];
                    const image = images.find(image => image.style.visibility === "visible");
                    const {x, y, width} = image.getBoundingClientRect();
                    return {name: image.alt, x, y, width, natural: image.naturalWidth};
                }"""
            )
        )

    page.keyboard.press("s")
    places = []
    for key, name in (("2", "compact, texture 0"), ("4", "compact, texture 1"), ("1", "fast")):
        page.keyboard.press(key)
        assert seen()["name"] == name
        places.append([seen()[side] for side in "xy"])
    assert places[0] == places[1] == places[2]
    assert seen()["width"] == 3 * seen()["natural"]
    page.keyboard.press("z")
    assert seen()["width"] == seen()["natural"]
    expect(page.get_by_role("button", name="100 %")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Shift+3")
    expect(page.locator(".tag.left")).to_have_text("compact, texture 0.7")
    page.keyboard.press("Shift+3")
    page.keyboard.press("m")
    expect(page.locator(".picture.difference")).to_be_visible()
    expect(page.locator(".stage .edge")).to_be_hidden()
    page.keyboard.press("m")
    page.keyboard.down(" ")
    expect(page.locator(".tag.left")).to_have_text("original")
    expect(page.locator(".tag.right")).to_be_hidden()
    page.keyboard.up(" ")
    expect(page.locator(".tag.right")).to_have_text("fast")
    expect(page.locator("#strip button").first).to_have_attribute("aria-current", "true")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#strip button").nth(1)).to_have_attribute("aria-current", "true")
    page.locator("#edge").focus()
    page.keyboard.press("End")
    expect(page.locator("#edge")).to_have_value("100")
    expect(page.locator("#strip button").nth(1)).to_have_attribute("aria-current", "true")


@pytest.mark.slow
def test_marks_end_in_the_command(page: Page, before: Path) -> None:
    command = page.locator("#command")
    expect(command).to_contain_text("--min-qf 60 --model fast")
    page.keyboard.press("4")
    page.keyboard.press("b")
    expect(command).to_contain_text("--model compact --texture 1")
    page.keyboard.press("-")
    expect(command).to_contain_text("--model compact --texture 0.7")
    expect(page.locator("#because")).to_contain_text("1 of 1 mark")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    expect(command).to_contain_text("--texture 0.7")  # looking at another is no mark
    page.keyboard.press("b")
    expect(command).to_contain_text("--model fast")  # of equally many marks, the one with the least texture
    expect(page.locator("#strip em:visible")).to_have_count(2)

    shown = data(before / "page.html")
    qualities = [shown["photos"][sample["photo"]]["quality"] for sample in shown["samples"]]
    place = next(n for n, quality in enumerate(qualities) if 25 < quality < 60)
    page.locator("#strip button").nth(place).click()
    expect(page.locator("#verdict")).to_contain_text("Restored at 60")
    page.keyboard.press("l")
    expect(page.locator("#verdict")).to_contain_text("Left alone at")
    expect(command).to_contain_text(f"--min-qf {int(qualities[place])} ")
    page.keyboard.press("r")
    expect(command).to_contain_text(f"--min-qf {int(qualities[place]) + 1} ")
    expect(page.get_by_role("button", name="Restore")).to_have_attribute("aria-pressed", "true")
    keep(page, "preview")


@pytest.mark.slow
def test_the_page_runs_no_script_but_its_own_and_asks_no_network(chromium: Browser, before: Path) -> None:
    page = chromium.new_page()
    page.goto((before / "page.html").as_uri())
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.intruder = true";
        document.body.append(script);
    }""")
    assert page.evaluate("() => window.intruder") is None
    assert page.evaluate("() => fetch('https://example.org').then(() => 'sent', () => 'refused')") == "refused"


@pytest.mark.slow
def test_the_photos_shown_stand_for_the_others(before: Path) -> None:
    shown = data(before / "page.html")
    assert len(shown["samples"]) == 8
    why = {shown["photos"][s["photo"]]["name"]: s["why"] for s in shown["samples"]}
    assert why["saved-again.jpg"] == "saved again"
    assert "near the line" in why.values()
    for sample in shown["samples"]:
        assert len(sample["versions"]) == 4
        assert all(0 < version["mean"] < 30 for version in sample["versions"])


@pytest.mark.slow
def test_photos_stay_as_they_are_and_nothing_else_is_written(tmp_path: Path) -> None:
    photo = write(tmp_path / "in/a.jpg", jpeg(20))
    data, time = photo.read_bytes(), photo.stat().st_mtime_ns
    told = program("preview", "in", "-o", "new folder/page.html", "--model", "fast", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert (photo.read_bytes(), photo.stat().st_mtime_ns) == (data, time)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "in",
        "in/a.jpg",
        "new folder",
        "new folder/page.html",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "page.txt"], "must end in .html"),
        (["-o", "file/page.html"], "cannot be written"),
        (["--model", "fast", "--texture", "0.5"], "(see --texture)"),
        (["--texture", "0,2"], "between 0 and 1"),
        (["--texture", "0,,1"], "comma-separated"),
        (["--model", "none-such"], "no model named"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_work(
    tmp_path: Path, run: Any, monkeypatch: Any, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in/a.jpg", jpeg(20))
    (tmp_path / "file").touch()
    ran = run("preview", "in", *arguments)
    assert ran.code != 0
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert not list(tmp_path.glob("*.html"))


def test_a_folder_without_photos_is_said(tmp_path: Path, run: Any) -> None:
    ran = run("preview", tmp_path, "-o", tmp_path / "page.html")
    assert "no JPEG files found" in ran.err
    assert not (tmp_path / "page.html").exists()


@pytest.mark.slow
def test_where_nothing_can_be_judged_the_page_says_so(tmp_path: Path, run: Any) -> None:
    write(tmp_path / "in/a.jpg", b"no photo")
    ran = run("preview", tmp_path / "in", "-o", tmp_path / "page.html")
    assert ran.code == 3
    shown = data(tmp_path / "page.html")
    assert shown["samples"] == shown["settings"] == []
    assert shown["photos"][0]["left"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_it_fits_a_phone_in_dark_and_light(chromium: Browser, before: Path, scheme: Any) -> None:
    page = chromium.new_page(viewport={"width": 360, "height": 700}, color_scheme=scheme)
    page.goto((before / "page.html").as_uri())
    expect(page.locator("#strip button")).to_have_count(8)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    assert page.evaluate("() => scrollY") == 0
    back = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", back)[0]) < 60) == (scheme == "dark")
    keep(page, f"preview-phone-{scheme}")


@pytest.mark.slow
def test_thousands_of_photos_are_listed_and_only_those_in_sight_are_made(
    chromium: Browser, before: Path, tmp_path: Path
) -> None:
    many = data(before / "page.html")
    photo = {"folder": "/gone", "header": 90, "size": [4000, 3000], "left": "", "link": "x.jpg"}
    many["photos"] += [
        {**photo, "name": f"{number:05}.jpg", "estimate": number / 50, "quality": number / 50} for number in range(5000)
    ]
    (tmp_path / "many.html").write_text(render("preview.html", "", many))
    page = chromium.new_page()
    page.goto((tmp_path / "many.html").as_uri())
    expect(page.locator("#listed")).to_have_text("5,017 of 5,017")
    assert page.locator("#rows > div").count() < 50
    page.locator("#words").fill("/gone")
    page.locator("#order").select_option("name")
    page.locator("#list").evaluate("list => { list.scrollTop = list.scrollHeight; }")
    expect(page.locator("#rows > div").last).to_contain_text("04999.jpg")
    page.locator("#line").fill("50")
    page.locator("#which").select_option("restore")
    expect(page.locator("#listed")).to_have_text("2,500 of 5,017")
