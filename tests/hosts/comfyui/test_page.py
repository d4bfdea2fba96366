"""The nodes in ComfyUI's own page: found, opened from the templates, run, explained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, TimeoutError, expect

from codiff_batch.jpeg import JpegPhoto
from tests.hosts.comfyui.client import ROOT, ComfyUI
from tests.hosts.comfyui.make_examples import WORKFLOWS
from tests.hosts.comfyui.page import open_page


@pytest.fixture
def page(comfyui: ComfyUI) -> Iterator[Page]:
    errors: list[str] = []
    with open_page(comfyui.address) as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        assert not errors


def open_template(page: Page, name: str) -> None:
    page.get_by_text("Templates", exact=True).click()
    page.get_by_placeholder("Search").fill(name)  # beside ours there are hundreds of ComfyUI's own
    page.get_by_text(name, exact=True).first.click()
    page.wait_for_function("() => app.graph.nodes.some(node => node.type.startsWith('CODiff'))")


def open_search(page: Page) -> Locator:
    """Double-click on the empty canvas, which passes over clicks while it is busy drawing."""
    box = page.get_by_placeholder("Search")
    for _ in range(10):
        page.mouse.dblclick(800, 700)
        with contextlib.suppress(TimeoutError):
            box.wait_for(timeout=3000)
            return box
    raise AssertionError("the search does not open")


def test_each_node_is_found_by_its_name(page: Page, comfyui: ComfyUI, shots: Path) -> None:
    nodes = {kind: told for kind, told in comfyui.get("/object_info").items() if kind.startswith("CODiff")}
    page.evaluate("() => app.graph.clear()")
    for kind, told in nodes.items():
        open_search(page).fill(told["display_name"])
        found = page.get_by_role("option").filter(has_text=told["display_name"]).first
        found.wait_for()
        page.screenshot(path=shots / "comfyui-search.png")
        found.click()
        expect(page.get_by_placeholder("Search")).to_be_hidden()
        page.wait_for_function("kind => app.graph.nodes.some(node => node.type === kind)", arg=kind)
        page.evaluate("() => app.graph.clear()")
        page.wait_for_timeout(300)


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_an_example_opens_from_the_templates_and_runs(page: Page, comfyui: ComfyUI, shots: Path, name: str) -> None:
    before = set((comfyui.base / "output").rglob("*.jpg"))
    open_template(page, name)
    page.wait_for_timeout(300)
    assert page.evaluate("() => app.graph.nodes.filter(node => node.has_errors || node.type === null).length") == 0
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.wait_for_function("() => app.graph.nodes.some(n => n.type === 'CODiffSaveJPEG' && n.imgs?.length)")
    page.wait_for_timeout(500)  # the picture is drawn a frame after it has come
    page.screenshot(path=shots / f"comfyui-{name}.png")
    saved = set((comfyui.base / "output").rglob("*.jpg")) - before
    assert saved
    assert all(JpegPhoto.open(path).pixels().ndim == 3 for path in saved)


def test_the_help_panel_explains_a_node(page: Page, shots: Path) -> None:
    open_template(page, "Restore one photo")
    page.evaluate(
        """() => {
            const node = app.graph.nodes.find(n => n.type === 'CODiffRestoreJPEG');
            app.canvas.centerOnNode(node);
            app.canvas.selectNode(node);
        }"""
    )
    page.get_by_test_id("info-button").click()
    expect(page.get_by_text("ringing and colour bleeding")).to_be_visible()
    page.screenshot(path=shots / "comfyui-help.png")


def test_the_pack_has_the_languages_that_the_page_can_show_and_speaks_them(page: Page, comfyui: ComfyUI) -> None:
    locales = {path.name for path in (ROOT / "plugins/comfyui/locales").iterdir()}
    page.keyboard.press("Control+,")
    page.get_by_placeholder("Search").last.fill("language")
    page.get_by_role("combobox").filter(has_text="English").first.click()
    offered = page.get_by_role("option").all_inner_texts()
    assert locales == {"zh"}
    assert "中文" in offered
    assert "Deutsch" not in offered
    comfyui.post("/settings/Comfy.Locale", "zh")
    try:
        page.reload()
        page.wait_for_function(
            "() => window.LiteGraph?.createNode('CODiffRestoreJPEG')?.title === '修复 JPEG (CODiff)'"
        )
    finally:
        comfyui.post("/settings/Comfy.Locale", "en")
