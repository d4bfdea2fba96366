"""The full model is the paper's: Table 2 comes out of the stock networks."""

import pytest
from click.testing import CliRunner

from benchmarks import gpu, pipeline, preview, report_page, smoke, start
from benchmarks.complexity import parts
from tests import warm

heavy = pytest.mark.xdist_group("diffusers")  # which takes seconds to import, as the compiler does


@heavy
@pytest.mark.slow
def test_parameters_and_multiplications_at_1024_pixels_are_those_of_the_papers_table_2() -> None:
    rows = parts(1024, adapters=True)
    assert sum(row.parameters for row in rows) == pytest.approx(1.00e9, rel=0.005)
    assert sum(row.layer_macs for row in rows) == pytest.approx(9.46e12, rel=0.005)
    merged, apart = (sum(row.macs for row in each) for each in (parts(1024, adapters=False), rows))
    assert 10.82e12 < merged < 10.90e12
    assert merged < apart < 1.05 * merged, "what merging the adapters saves"


@heavy
@pytest.mark.slow
def test_the_gpu_benchmark_is_ready_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rehearsed with a tiny model on the CPU; its figures mean nothing there."""
    monkeypatch.setattr(smoke, "CONSTRAINED", 200)
    result = CliRunner().invoke(gpu.main, ["--tiny", "--device", "cpu", "--runs", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.count("| VAE decoder |") == 4
    assert "times faster" in result.output
    assert "ms/MP on the device" in result.output


@pytest.fixture
def small_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "models", lambda: iter([("narrow", smoke.narrow)]))
    monkeypatch.setattr(smoke, "SIDES", (128, 160))
    monkeypatch.setattr(smoke, "CONSTRAINED", 200)


@heavy
@pytest.mark.slow
def test_the_smoke_check_passes_on_what_there_is(small_check: None) -> None:
    result = CliRunner().invoke(smoke.main, ["--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "the same bytes twice" in result.output
    assert "left out  memory can only be made scarce" in result.output
    assert "slowest: " in result.output
    assert "of the values differ from the host's" in result.output
    assert "left out  the kernel needs a CUDA device" in result.output
    assert "left out  steps are recorded on CUDA devices only" in result.output


@heavy
@pytest.mark.slow
def test_the_smoke_check_fails_where_a_device_computes_something_else(
    small_check: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke.Checks, "two_at_once", lambda checks: "not asked")
    off = iter(range(1000))
    plain = smoke.levels
    monkeypatch.setattr(smoke, "levels", lambda restorer, pixels: plain(restorer, pixels) + next(off))
    result = CliRunner().invoke(smoke.main, ["--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 1
    assert "FAILED    AssertionError: two runs gave different bytes" in result.output


@pytest.mark.xdist_group("pages")
@pytest.mark.slow
def test_the_page_benchmark_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_page, "SCROLLED", 200)
    result = CliRunner().invoke(report_page.main, ["--photos", "200", "--runs", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "| 200 |" in result.output


@pytest.mark.xdist_group("pages")
@pytest.mark.slow
def test_the_preview_benchmark_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "TEXTURES", (0.0, 0.5))
    monkeypatch.setattr(preview, "SIDE", 64)
    monkeypatch.setattr(preview, "SIDES", (96, 64))
    monkeypatch.setattr(start, "PROGRAM", warm.program())
    monkeypatch.setattr(preview, "DRAGGED", 5)
    options = ["--photos", "2", "--listed", "200"]
    result = CliRunner().invoke(preview.main, options, catch_exceptions=False)
    assert result.exit_code == 0
    assert "2 photos judged, 2 restored" in result.output
    assert "ms a frame" in result.output


@pytest.mark.slow
def test_the_start_benchmark_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "PROGRAM", warm.program())
    result = CliRunner().invoke(start.main, ["--runs", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == 7


@pytest.mark.slow
def test_the_pipeline_benchmark_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "PROGRAM", warm.program())
    options = ["--photos", "1", "--judged", "2", "--good", "1", "--device", "cpu"]
    result = CliRunner().invoke(pipeline.main, options, catch_exceptions=False)
    assert result.exit_code == 0
    assert "device busy" in result.output
    assert "judging 2 files" in result.output
    assert "judging 1 files" in result.output
