"""What quantization tables say, and what the codes of markers mean."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL.JpegImagePlugin import MARKER

from codiff_batch.jpeg import markers
from codiff_batch.jpeg.arrays import NUMPY
from codiff_batch.jpeg.quantization import expected_error, fit_quality, ijg_table


@pytest.mark.parametrize(
    "name", ["SOI", "EOI", "SOS", "DQT", "DHT", "DRI", "DNL", "COM", "DAC", "APP0", "APP1", "APP2"]
)
def test_markers_have_the_codes_of_the_standard(name: str) -> None:
    assert MARKER[0xFF00 | getattr(markers, name)][0] == name


def test_rows_of_markers_are_whole() -> None:
    names = {code & 0xFF: name for code, (name, *_) in MARKER.items()}
    assert [names[code] for code in markers.RESTARTS] == [f"RST{number}" for number in range(8)]
    assert [names[code] for code in markers.APPS] == [f"APP{number}" for number in range(16)]
    assert [names[code] for code in (markers.APP11, markers.APP13, markers.APP14)] == ["APP11", "APP13", "APP14"]
    assert {names.get(code, "TEM") for code in markers.STANDALONE} == {"SOI", "EOI", "TEM"} | {
        f"RST{number}" for number in range(8)
    }
    assert markers.TEM == 1


def test_each_kind_of_frame_is_handled_or_refused_by_its_name() -> None:
    told = markers.FRAMES | markers.REFUSED_FRAMES
    for number in {*range(16)} - {4, 8, 12}:
        name = told[0xC0 + number]
        assert ("arithmetic" in name) == (number > 8)
        assert ("lossless" in name) == (number % 4 == 3)
        assert ("progressive" in name) == (number % 4 == 2)
        assert ("hierarchical" in name) == (number % 8 > 4)
    assert told[0xDE] == "hierarchical" and told[0xF7] == "JPEG-LS"


@pytest.mark.parametrize("chroma", [False, True])
def test_the_coarsest_tables_are_only_clipped_where_steps_have_eight_bits(chroma: bool) -> None:
    base = ijg_table(50, chroma=chroma).astype(int)
    assert np.array_equal(ijg_table(1, chroma=chroma), np.minimum(base * 50, 255))
    assert np.array_equal(ijg_table(1, chroma=chroma, largest=32767), base * 50)
    assert np.array_equal(ijg_table(49, chroma=chroma), (base * 102 + 50) // 100)
    assert (ijg_table(100, chroma=chroma, largest=32767) == 1).all()


def test_extended_tables_are_compared_with_extended_ones() -> None:
    for qf in (1, 5, 10):
        tables = [ijg_table(qf, chroma=chroma, largest=32767) for chroma in (False, True, True)]
        assert fit_quality(tables) == (qf, 0)


def test_no_two_quality_factors_have_the_same_tables() -> None:
    for largest in (255, 32767):
        assert len({ijg_table(qf, chroma=False, largest=largest).tobytes() for qf in range(1, 101)}) == 100


def even(step: int) -> NDArray[np.uint16]:
    """A table of one step, as no IJG quality has it."""
    return np.full((8, 8), step, np.uint16)


@pytest.mark.parametrize(
    ("step", "luma", "cb", "cr"),
    [
        (2, 0.29698, 0.27809, 0.21128),
        (12, 7.58929, 4.51652, 3.43144),
        (60, 84.94757, 28.58235, 21.71557),
        (255, 416.2793, 100.55435, 76.39662),
    ],
)
def test_the_error_of_even_steps_is_that_of_the_fit(step: int, luma: float, cb: float, cr: float) -> None:
    whole = expected_error([even(step)] * 3)
    assert expected_error([even(step)]) == pytest.approx(luma, rel=1e-4)
    assert expected_error([even(step)] * 2) - luma == pytest.approx(cb, rel=1e-4)
    assert whole - luma - cb == pytest.approx(cr, rel=1e-4)


@pytest.mark.parametrize(
    ("steps", "qf", "misfit"),
    [
        ((12,), 88.283, 0.40674),
        ((12, 12, 12), 89.634, 0.40674),
        ((12, 20, 20), 85.338, 0.22452),
        ((12, 12, 40), 83.048, 0.38469),
        ((3, 5, 5), 97.105, 0.31054),
        ((60, 60, 60), 23.688, 0.40425),
        ((60, 99, 99), 18.356, 0.22286),
        ((255,), 1, 0),
        ((300,), 2.844, 0.40626),
        ((300, 200, 200), 3.264, 0.29851),
        ((2000, 2000, 2000), 1, 0.41707),
    ],
)
def test_even_steps_count_as_the_quality_that_does_as_much_harm(
    steps: tuple[int, ...], qf: float, misfit: float
) -> None:
    found = fit_quality([even(step) for step in steps])
    assert found == (pytest.approx(qf, abs=0.02), pytest.approx(misfit, abs=1e-4))


@pytest.mark.parametrize(("rows", "columns"), [(5, 700), (700, 5), (64, 64), (1, 600), (0, 8), (4096, 64), (4097, 64)])
def test_a_product_in_parts_is_the_product(rows: int, columns: int) -> None:
    random = np.random.default_rng(0)
    left, right = (random.normal(size=shape).astype(np.float32) for shape in ((rows, 64), (64, columns)))
    result = NUMPY.product(left, right)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, left.astype(float) @ right, atol=1e-3)
