"""Tiles cover every pixel and their weights add up to one."""

from itertools import pairwise

import numpy as np
import pytest

from codiff_batch.engine.tiling import plan_spans, plan_tiles


@pytest.mark.parametrize("length", [1, 15, 64, 65, 96, 97, 100, 127, 128, 129, 1000, 4321])
def test_weights_add_up_to_one_at_every_pixel(length: int) -> None:
    total = np.zeros(length)
    for span in plan_spans(length, tile=64, overlap=32, multiple=16):
        assert span.start % 16 == 0
        assert 0 < span.stop - span.start <= 64
        assert (span.weights >= 0).all()
        total[span.start : span.stop] += span.weights
    assert np.allclose(total, 1, atol=1e-6)


def test_neighbours_share_nearly_the_overlap_that_was_asked_for() -> None:
    for length in range(513, 3000, 17):
        spans = plan_spans(length, tile=512, overlap=64, multiple=16)
        assert min(a.stop - b.start for a, b in pairwise(spans)) >= 64 - 16


def test_a_picture_that_fits_is_one_tile() -> None:
    (tile,) = plan_tiles(40, 64, tile=64, overlap=32, multiple=16)
    assert tile.place == (slice(0, 40), slice(0, 64))
    assert (tile.weights == 1).all()


def test_a_tile_that_cannot_move_forward_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        plan_spans(100, tile=32, overlap=32, multiple=16)
