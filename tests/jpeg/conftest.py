"""Where the JPEG tests find real files."""

from __future__ import annotations

from pathlib import Path

import pytest

_DATA = Path(__file__).resolve().parents[2] / "../shared/data"


@pytest.fixture(scope="session")
def corpus() -> list[Path]:
    """Every file of the robustness corpus: unusual, unsupported, broken and fuzzed JPEGs."""
    folder = _DATA / "jpeg-corpus"
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    if not files:
        pytest.skip("the folder shared/data/jpeg-corpus does not lie beside the repository")
    return files
