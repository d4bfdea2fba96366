"""Many pictures at once: shared batches, failures that stay with their picture, and memory that runs out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from codiff_batch.engine import Request, Restorer, Result
from codiff_batch.errors import RestoreFailed
from tests.faults.engine import with_faults
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    return Restorer.load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", tile=64), "cpu")


def picture(seed: int, height: int = 100, width: int = 130) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def results(restorer: Restorer, *requests: Request | None) -> dict[object, Result]:
    return {result.request.key: result for result in restorer.stream(requests)}


@pytest.mark.slow
def test_tiles_of_different_pictures_share_batches(restorer: Restorer) -> None:
    batched, faulty = with_faults(restorer, lambda call, images: False, batch=8)
    pictures = {seed: picture(seed) for seed in range(4)}
    alone = {seed: batched.restore_levels(pixels) for seed, pixels in pictures.items()}
    faulty.calls.clear()
    together = results(batched, *(Request(pixels, key=seed) for seed, pixels in pictures.items()))
    assert sum(shape[0] for shape in faulty.calls) < 4 * sum(1 for _ in pictures) * 8  # fewer steps than one by one
    assert all(np.array_equal(together[seed].levels, alone[seed]) for seed in pictures)


def test_a_pause_in_the_input_does_not_hold_up_what_is_there(restorer: Restorer) -> None:
    batched, _ = with_faults(restorer, lambda call, images: False, batch=64)
    stream = batched.stream(iter([Request(picture(1), key="first"), None, Request(picture(2), key="second")]))
    assert next(stream).request.key == "first"
    assert next(stream).request.key == "second"


@pytest.mark.slow
def test_an_error_fails_the_pictures_of_its_batch_alone(restorer: Restorer) -> None:
    broken, _ = with_faults(restorer, lambda call, images: call == 2, error=ValueError("no such tile"))
    ended = results(broken, *(Request(picture(seed), key=seed) for seed in range(3)))
    assert [key for key, result in ended.items() if result.error is not None] == [0]
    assert isinstance(ended[0].error, ValueError)
    assert ended[2].levels is not None


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["first", "middle", "last"])
def test_out_of_memory_once_changes_nothing_but_the_batch(restorer: Restorer, moment: str) -> None:
    pixels = picture(1, 200, 200)
    whole, counted = with_faults(restorer, lambda call, images: False, batch=4)
    expected = whole.restore_levels(pixels)
    at = {"first": 1, "middle": len(counted.calls) // 2, "last": len(counted.calls)}[moment]
    short, faulty = with_faults(restorer, lambda call, images: call == at, batch=4)
    assert np.allclose(short.restore_levels(pixels), expected, atol=0.01)
    assert {shape[0] for shape in faulty.calls} == {4, 2}


@pytest.mark.slow
def test_the_batch_is_halved_before_the_tile(restorer: Restorer) -> None:
    pixels = picture(1, 200, 200)
    small, faulty = with_faults(restorer, lambda call, images: images.numel() > 3 * 32 * 32, batch=4)
    restored = small.restore_levels(pixels)
    assert np.isfinite(restored).all()
    assert restored.shape == pixels.shape
    tried = [(shape[0], shape[-1]) for shape in faulty.calls[:4]]
    assert tried == [(4, 64), (2, 64), (1, 64), (1, 32)]


@pytest.mark.slow
def test_what_was_learned_about_memory_holds_for_the_next_picture(restorer: Restorer) -> None:
    small, faulty = with_faults(restorer, lambda call, images: images.shape[0] > 1, batch=4)
    small.restore(picture(1))
    failed = len(faulty.calls)
    small.restore(picture(2))
    assert {shape[0] for shape in faulty.calls[failed:]} == {1}


@pytest.mark.slow
def test_pictures_under_way_survive_smaller_tiles(restorer: Restorer) -> None:
    small, _ = with_faults(restorer, lambda call, images: call > 3 and images.shape[-1] > 32, batch=4)
    ended = results(small, *(Request(picture(seed), key=seed) for seed in range(5)))
    assert len(ended) == 5
    assert all(result.error is None for result in ended.values())


@pytest.mark.slow
def test_no_memory_at_all_is_said_of_the_picture(restorer: Restorer) -> None:
    none, _ = with_faults(restorer, lambda call, images: True, batch=4)
    with pytest.raises(RestoreFailed, match="out of memory on cpu, even for a single tile of 32x32"):
        none.restore(picture(1))


@pytest.mark.slow
def test_the_cpus_own_words_for_it_are_understood(restorer: Restorer) -> None:
    words = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    none, _ = with_faults(restorer, lambda call, images: True, error=words)
    with pytest.raises(RestoreFailed, match="out of memory"):
        none.restore(picture(1))


@pytest.mark.slow
def test_nothing_of_a_failed_step_stays_in_memory(restorer: Restorer) -> None:
    import gc
    import weakref

    held: list[weakref.ref[torch.Tensor]] = []

    def fails(call: int, images: torch.Tensor) -> bool:
        gc.collect()
        # When the next try begins, the tensors of the one that failed are gone.
        assert all(reference() is None for reference in held)
        held[:] = [weakref.ref(images)]
        return images.shape[0] > 1

    small, _ = with_faults(restorer, fails, batch=4)
    small.restore(picture(1))


def test_a_picture_of_another_size_is_refused(restorer: Restorer) -> None:
    class Cropping(torch.nn.Module):
        def forward(self, images, tokens, **condition):
            return images[..., 1:, :]

    from codiff_batch.models.loading import Networks

    cropping = Restorer(restorer.card, Networks(restorer.networks.cave, Cropping()), torch.device("cpu"))
    with pytest.raises(RestoreFailed, match="another size"):
        cropping.restore(picture(1))


def test_crops_of_many_pictures_are_seen_together_as_they_are_alone(restorer: Restorer) -> None:
    from codiff_batch.engine.crops import textured_crops

    pictures = [picture(1), picture(2, 300, 400), picture(3, 20, 20), picture(4, 300, 400)]
    together = restorer.embed_crops([textured_crops(pixels) for pixels in pictures])
    for pixels, embedding in zip(pictures, together, strict=True):
        assert embedding.qf == pytest.approx(restorer.estimate_qf(pixels), abs=0.01)


@pytest.mark.slow
def test_a_missing_memory_for_looking_is_shared_out(restorer: Restorer, tmp_path: Path) -> None:
    from codiff_batch.models.loading import Networks

    class Short(torch.nn.Module):
        def forward(self, images):
            if images.shape[0] > 2:
                raise torch.OutOfMemoryError("injected")
            return restorer.networks.cave(images)

    short = Restorer(restorer.card, Networks(Short(), restorer.networks.generator), torch.device("cpu"))
    pixels = picture(1, 300, 400)
    assert short.estimate_qf(pixels) == pytest.approx(restorer.estimate_qf(pixels), abs=0.01)
