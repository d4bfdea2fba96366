"""Regular patterns to train and to measure on."""

from __future__ import annotations

import numpy as np
import pytest

from training.patterns import HELD_OUT, KINDS, draw_pattern, draw_patterns


@pytest.mark.parametrize("kind", KINDS)
def test_a_pattern_is_the_same_each_time_and_another_with_another_seed(kind: str) -> None:
    first, again, other = (draw_pattern(kind, seed, 64) for seed in (1, 1, 2))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert first.std() > 2
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.slow
def test_kinds_take_turns_and_held_out_ones_are_others() -> None:
    trained_on, held_out = draw_patterns(len(KINDS) + 1), draw_patterns(1, HELD_OUT)
    assert np.array_equal(trained_on[0], draw_pattern("facade", 0))
    assert np.array_equal(trained_on[-1], draw_pattern("facade", 1))
    assert not any(np.array_equal(held_out[0], picture) for picture in trained_on)
