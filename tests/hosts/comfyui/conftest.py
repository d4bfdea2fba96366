"""A ComfyUI that all tests of the pack share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.comfyui.client import ROOT, ComfyUI
from tests.hosts.comfyui.get_comfyui import get_comfyui


@pytest.fixture(scope="session")
def comfyui_python(hosts: Path) -> Path:
    return get_comfyui(hosts / "comfyui")


@pytest.fixture(scope="session")
def comfyui(comfyui_python: Path, hosts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A server with the example photos in its input folder."""
    base = tmp_path_factory.mktemp("comfyui")
    (base / "input").mkdir()
    for photo in (ROOT / "examples/photos").glob("*.jpg"):
        (base / "input" / photo.name).write_bytes(photo.read_bytes())
    server = ComfyUI(comfyui_python, hosts / "comfyui/ComfyUI", base)
    yield server
    server.stop()
