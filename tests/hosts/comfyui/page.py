"""ComfyUI's page in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page

from tests.browser import browser

PATIENCE_MS = 30_000


@contextmanager
def open_page(address: str, *, width: int = 1600, height: int = 900) -> Iterator[Page]:
    """The page at an address, once the pack's nodes are known to it."""
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")  # an advertisement
        page.goto(address)
        page.wait_for_function("() => !!(window.app && window.LiteGraph?.registered_node_types?.CODiffRestoreJPEG)")
        yield page


def show_graph(page: Page, prompt: dict[str, Any], name: str, places: dict[str, Any]) -> dict[str, Any]:
    """Put a prompt onto the canvas, its nodes at their [place, size], and return it as the page saves it."""
    workflow: dict[str, Any] = page.evaluate(
        """async ([prompt, name, places]) => {
            await app.loadApiJson(prompt, name);
            for (const node of app.graph.nodes) {
                const [place, size] = places[node.id];
                node.pos = place;
                node.size = size;
            }
            app.canvas.ds.scale = 0.8;
            app.canvas.ds.offset = [110, 230];
            return JSON.parse(JSON.stringify(app.graph.serialize()));
        }""",
        [prompt, name, places],
    )
    return workflow
