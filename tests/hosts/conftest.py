"""Real hosts are large and come from the package index, so they are asked for: ``CODIFF_TEST_HOSTS=FOLDER pytest``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "CODIFF_TEST_HOSTS"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is about a real host."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("hosts")
            item.add_marker("slow")


@pytest.fixture(scope="session")
def hosts() -> Path:
    """Folder that the hosts are installed in, and kept in between runs."""
    if VARIABLE not in os.environ:
        pytest.skip(f"set {VARIABLE} to a folder that may take some gigabytes, for tests in real host programs")
    return Path(os.environ[VARIABLE]).resolve()


@pytest.fixture
def shots(hosts: Path) -> Path:
    """Where screenshots are kept, to be looked at."""
    folder = hosts / "screenshots"
    folder.mkdir(exist_ok=True)
    return folder
