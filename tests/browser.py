"""Headless Chromium, as Debian packs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that speaks with nobody by itself; the test is skipped where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}, Debian's package chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


def keep(page: Page, name: str) -> None:
    """Keep a screenshot to be looked at, beside those of the host programs; see CONTRIBUTING.md."""
    if folder := os.environ.get("CODIFF_TEST_HOSTS"):
        page.screenshot(path=Path(folder) / "screenshots" / f"{name}.png")
