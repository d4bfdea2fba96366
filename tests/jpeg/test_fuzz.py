"""A short run of the fuzzer; ``python -m tests.fuzz`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fuzz


@pytest.mark.slow
def test_mutated_files_end_in_outcomes_only(tmp_path: Path) -> None:
    outcomes = fuzz.run(500, seed=7, keep=tmp_path)
    assert sum(outcomes.values()) == 500
    assert not [outcome for outcome in outcomes if outcome.isupper()]
    assert outcomes["whole"] > 50  # some get through to the encoders
    assert outcomes["DamagedJpeg"] > 50


def test_what_raises_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> str:
        raise RecursionError

    monkeypatch.setattr(fuzz, "look", broken)
    monkeypatch.setattr("resource.setrlimit", lambda *arguments: None)
    assert fuzz.look_at_block(0, 0, 2, tmp_path / "progress") == 1
