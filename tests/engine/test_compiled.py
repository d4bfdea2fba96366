"""Compiled networks: one graph without a break for all photos. The full model's work, counted without weights."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.smoke import SMALL
from codiff_batch.engine import Restorer
from codiff_batch.engine.torch_backend import Step
from codiff_batch.models.install import full_card
from codiff_batch.models.loading import ARCHITECTURES, Networks, build
from codiff_batch.networks.stable_diffusion import SD21_UNET, SD21_VAE
from tests.tiny_model import SIZES, make_tiny_model

pytestmark = pytest.mark.xdist_group("diffusers")  # which takes seconds to import, as the compiler does

CPU = torch.device("cpu")
SHALLOW = {
    **SMALL,
    "unet": {
        **SMALL["unet"],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [32, 32],
        "attention_head_dim": [2, 2],
        "layers_per_block": 1,
    },
    "vae": {**SMALL["vae"], "layers_per_block": 1},
}
"""Each kind of block once: a compiler takes its time for every layer."""

TWO_LEVELS = {**SIZES, "widths": [8, 8], "depths": [1, 1]}


Backend = Callable[[torch.fx.GraphModule, Any], Callable[..., Any]]


def as_traced(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
    return graph.forward


def made_functional(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
    """And decomposed, as for any compiler; another test has torch's own write the code."""
    return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)


@pytest.fixture
def backend() -> Backend:
    """What makes a graph run, which must come out without a break; by default it runs as torch traced it."""
    return as_traced


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> list[int]:
    """Sizes of the graphs that torch made."""
    made: list[int] = []

    def count(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        made.append(len(graph.graph.nodes))
        return backend(graph, inputs)

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=count, fullgraph=True))
    return made


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)


def shallow(*, compiled: bool) -> Restorer:
    """The full model with random weights, the same each time."""
    torch.manual_seed(0)
    card = replace(full_card("shallow", SHALLOW, {}), tile=128, overlap=64, colour_fix="none", half_precision=False)
    networks = Networks(*(part.eval().requires_grad_(False) for part in build(card)))
    ARCHITECTURES[card.architecture].specialize(networks)
    return Restorer(card, networks, CPU, tile=128, compiled=compiled)


@pytest.mark.slow(seconds=30)
@pytest.mark.parametrize("backend", [made_functional])
def test_the_full_models_chain_is_one_graph_for_photos_of_all_sizes_and_gives_the_same_picture(
    graphs: list[int],
) -> None:
    restorer = shallow(compiled=True)
    assert restorer.geometry.one_size
    # Small pictures are mirrored up to the one size, so only what has that size already compares.
    whole_tile = photo(128, 128)
    assert np.abs(restorer.restore_levels(whole_tile) - shallow(compiled=False).restore_levels(whole_tile)).max() < 0.1
    for size in ((60, 90), (100, 150)):
        assert restorer.restore_levels(photo(*size)).shape == (*size, 3)
    assert len(graphs) == 1
    assert graphs[0] > 300


@pytest.mark.slow(seconds=30)
def test_networks_compiled_by_torch_itself_give_the_same_picture(tmp_path: Path) -> None:
    torch._dynamo.reset()
    loaded = Restorer.load(make_tiny_model(tmp_path / "tiny", sizes=TWO_LEVELS), "cpu")
    restorer = Restorer(loaded.card, loaded.networks, CPU, compiled=True)
    assert restorer.geometry.one_size
    whole_tile = photo(loaded.card.tile, loaded.card.tile)
    assert np.abs(restorer.restore_levels(whole_tile) - loaded.restore_levels(whole_tile)).max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("texture", [0.0, 0.5])
def test_a_model_with_texture_needs_no_look_into_its_tensors(tmp_path: Path, graphs: list[int], texture: float) -> None:
    """Such a look makes a GPU's queue wait, and breaks the graph."""
    loaded = Restorer.load(make_tiny_model(tmp_path / "textured", sizes={**TWO_LEVELS, "texture": True}), "cpu")
    restorer = Restorer(loaded.card, loaded.networks, CPU, compiled=True)
    for size in ((64, 64), (70, 90)):
        restorer.restore(photo(*size), texture=texture, qf=10)
    assert len(graphs) == 1


@pytest.mark.slow
def test_the_full_models_work_at_1024_pixels_is_within_its_budget() -> None:
    """Of real size, on torch's device without memory: multiplications of a step, and bytes of its weights."""
    from torch.utils.flop_counter import FlopCounterMode

    sizes = {"unet": dict(SD21_UNET), "vae": dict(SD21_VAE), "cave_widths": [64, 128, 256, 512], "cave_depth": 4}
    card = full_card("full", sizes, {})
    with torch.device("meta"):
        networks = Networks(*(part.eval().requires_grad_(False).half() for part in build(card)))
        ARCHITECTURES[card.architecture].specialize(networks)
        images = torch.empty(1, 3, 1024, 1024, dtype=torch.float16).to(memory_format=torch.channels_last)
        tokens = torch.empty(1, 0, 0, dtype=torch.float16)
    step = Step(networks, card.views, embeds_tiles=card.embeds_tiles)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        restored = step(images, tokens, {})
    assert restored.shape == images.shape
    assert counter.get_total_flops() == pytest.approx(21.8e12, rel=0.03)
    weights = sum(weight.numel() * weight.itemsize for weight in step.parameters())
    assert weights == pytest.approx(2.06e9, rel=0.03)


@pytest.mark.slow
def test_small_photos_with_tokens_in_many_numbers_are_compiled_too(tmp_path: Path, graphs: list[int]) -> None:
    """Torch gives up after a few kinds, silently, unless it is told otherwise."""
    loaded = Restorer.load(make_tiny_model(tmp_path / "tiny", sizes=TWO_LEVELS), "cpu")
    restorer = Restorer(loaded.card, loaded.networks, CPU, compiled=True)
    pixels = photo(64, 64)
    seen = restorer.embed(pixels)

    def restore() -> None:
        """In a thread, as a batch does; torch has a limit for each."""
        torch._dynamo.config.recompile_limit = 2
        for number in range(1, 5):
            tokens = [seen.tokens[0][:, :1]] * number
            restorer.restore(pixels, embedding=replace(seen, tokens=tokens, qf=10.0))

    with ThreadPoolExecutor(1) as threads:
        threads.submit(restore).result()
    assert len(graphs) == 4
