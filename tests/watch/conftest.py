"""Daemons that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import make_tiny_model
from tests.watch.watched import Watched


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def watch(tmp_path: Path, model: Path) -> Iterator[Callable[..., Watched]]:
    started: list[Watched] = []

    def start(*arguments: object, folder: Path = tmp_path, **named: Any) -> Watched:
        watched = Watched(folder, "--settle", 0.5, *arguments, **{"model": model, **named})
        started.append(watched)
        return watched

    yield start
    for watched in started:
        watched.program.kill()
        watched.program.wait()
