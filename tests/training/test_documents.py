"""Drawn pages, screens, charts, gradients and flat pictures to train on."""

from __future__ import annotations

import numpy as np
import pytest

from training.documents import KINDS, draw_document, draw_documents
from training.patterns import HELD_OUT


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_is_the_same_each_time_and_another_with_another_seed(kind: str) -> None:
    first, again, other = (draw_document(kind, seed, 96) for seed in (1, 1, 2))
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_kinds_take_turns_and_held_out_ones_are_others() -> None:
    trained_on, held_out = draw_documents(len(KINDS) + 1), draw_documents(1, HELD_OUT)
    assert np.array_equal(trained_on[0], draw_document("page", 0))
    assert np.array_equal(trained_on[-1], draw_document("page", 1))
    assert not any(np.array_equal(held_out[0], picture) for picture in trained_on)
