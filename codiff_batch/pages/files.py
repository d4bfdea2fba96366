"""Where a page's own files are."""

from __future__ import annotations

import urllib.parse
from importlib.resources import files
from pathlib import Path


def template(name: str) -> str:
    """The text of one of the package's pages."""
    return files("codiff_batch.pages").joinpath(name).read_text("utf-8")


def folder_beside(page: Path) -> Path:
    """The folder for a page's pictures."""
    return page.with_name(f"{page.stem}-files")


def address(folder: Path, name: str) -> str:
    """How the page addresses a picture in that folder."""
    return f"{urllib.parse.quote(folder.name)}/{name}"
