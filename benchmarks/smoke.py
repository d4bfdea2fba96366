"""Checks within a minute that a device computes every available model correctly.

Run as ``python -m benchmarks.smoke [--device cuda:1]``. It needs the package and nothing else. Each check is "ok",
"FAILED" with what was seen, or "left out" with the reason; the exit code is 1 if one failed.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from codiff_batch.engine import Restorer
from codiff_batch.engine.device import as_current, choose_device
from codiff_batch.engine.exact import exactly
from codiff_batch.engine.graphs import Recorded
from codiff_batch.engine.memory import give_back
from codiff_batch.engine.on_device import OnDevice
from codiff_batch.engine.precision import choose_precision
from codiff_batch.engine.stream import Embedding
from codiff_batch.engine.torch_backend import Step
from codiff_batch.jpeg import JpegPhoto, project_to_cells
from codiff_batch.models.card import ModelCard
from codiff_batch.models.catalogue import available
from codiff_batch.models.install import full_card
from codiff_batch.models.loading import ARCHITECTURES, Networks, build, load_networks
from codiff_batch.networks.stable_diffusion import SD21_UNET, SD21_VAE

Pixels = np.ndarray[Any, Any]

TOLERANCE = {torch.float32: 0.002, torch.float16: 0.02, torch.bfloat16: 0.1}
"""Largest mean difference from 32-bit floats on a processor that counts as rounding, as a share of a model's change."""

SIDES = (384, 512)
"""Height and width of the picture."""

CONSTRAINED = 1000
"""Sides of the one that is kept within its cells."""

SMALL = {
    "unet": {**SD21_UNET, "block_out_channels": [32, 32, 32, 32], "attention_head_dim": [2, 2, 2, 2]},
    "vae": {**SD21_VAE, "block_out_channels": [32, 32, 32, 32]},
    "cave_widths": [8, 8, 8, 16],
    "cave_depth": 1,
}
"""The full model's chain with few channels."""


class LeftOut(Exception):
    """A check that is impossible here."""


def picture(height: int, width: int) -> Pixels:
    """The pixels of a drawn picture as a JPEG at QF 15."""
    return photo(height, width).pixels()


def photo(height: int, width: int, **options: Any) -> JpegPhoto:
    """A drawn picture as a JPEG at QF 15; options as for ``Image.save``."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (height // 16, width // 16, 3)).astype(np.uint8))
    buffer = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=15, **options)
    return JpegPhoto.from_bytes(buffer.getvalue())


def models() -> Iterator[tuple[str, Callable[[], tuple[ModelCard, Networks]]]]:
    """Every available model, and the full one's chain with random weights."""
    for entry in available():
        if entry.path is not None and entry.status in ("bundled", "installed"):
            yield entry.name, lambda path=entry.path: load_networks(path)  # type: ignore[misc]
    yield "the full model's chain, narrow, random weights", narrow


def narrow() -> tuple[ModelCard, Networks]:
    """Stable Diffusion's networks with few channels."""
    try:
        import diffusers  # noqa: F401
    except ImportError as error:
        raise LeftOut("diffusers is not installed") from error
    torch.manual_seed(0)
    card = replace(full_card("narrow", SMALL, {}), tile=256, colour_fix="none")
    networks = Networks(*(part.eval().requires_grad_(False) for part in build(card)))
    ARCHITECTURES[card.architecture].specialize(networks)
    return card, networks


class Checks:
    """Of one device."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.failed = device, 0
        self.pixels = picture(*SIDES)

    def run(self, name: str, check: Callable[[], str]) -> None:
        """Run one check and print a line."""
        started = time.perf_counter()
        try:
            ended = f"ok        {check()}"
        except LeftOut as reason:
            ended = f"left out  {reason}"
        except Exception as error:
            self.failed += 1
            ended = f"FAILED    {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        click.echo(f"{name:<44} {time.perf_counter() - started:5.1f} s  {ended}")

    def against_cpu(self, load: Callable[[], tuple[ModelCard, Networks]]) -> str:
        """The device's picture equals the processor's in 32-bit floats up to rounding; two runs give the same bytes."""
        card, networks = load()
        wanted = levels(Restorer(card, networks, torch.device("cpu"), precision="fp32"), self.pixels)
        card, networks = load()
        restorer = Restorer(card, networks, self.device)
        first, second = (levels(restorer, self.pixels) for _ in range(2))
        assert np.isfinite(first).all(), "values that are not finite"
        assert first.tobytes() == second.tobytes(), "two runs gave different bytes"
        weights, steps = choose_precision(card, self.device)
        precision = steps or weights
        off = difference(first, wanted, self.pixels)
        assert off <= TOLERANCE[precision], f"{off:.2%} of the change differs from the processor's"
        return f"{precision}, {off:.2%} of the change differs from the processor's, the same bytes twice"

    def parts(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Checks of what has a form of its own on a GPU, with times."""
        yield "the constraint", self.constraint
        yield "group normalisation and SiLU in one", self.kernel
        yield "CUDA graphs", self.graphs

    def constraint(self) -> str:
        """The constraint on the device gives the host's pixels, but for some that lie between two levels."""
        side, seconds = CONSTRAINED, {"host": 0.0, "device": 0.0}
        for sampling in ("4:2:0", "4:4:4"):
            source = photo(side, side, subsampling=sampling)
            pixels = source.pixels()
            noise = np.random.default_rng(1).normal(0, 8, pixels.shape)
            levels = (pixels + noise).clip(0, 255).astype(np.float32)
            for _ in range(2):  # The first is not counted.
                started = time.perf_counter()
                wanted = project_to_cells(levels.copy(), source, pixels)
                seconds["host"] = time.perf_counter() - started
                kept = OnDevice(torch.from_numpy(levels.copy()).to(self.device))
                synchronize(self.device)
                started = time.perf_counter()
                made = kept.in_cells(source, pixels)
                seconds["device"] = time.perf_counter() - started
            off = np.abs(made.astype(int) - wanted)
            assert (off > 0).mean() < 1e-3 and (off > 1).mean() < 1e-5, f"{(off > 0).mean():.2%} of the values differ"
        times = ", ".join(f"{1e3 * each / (side**2 / 1e6):.1f} ms/MP on the {name}" for name, each in seconds.items())
        return f"{(off > 0).mean():.4%} of the values differ from the host's; {times}"

    @torch.inference_mode()
    def kernel(self, side: int = 1024) -> str:
        """Group normalisation and SiLU in one kernel give torch's values; times at the VAE's widest."""
        from codiff_batch.networks.gpu_layers import kernel_for, normalize_last

        if self.device.type != "cuda":
            raise LeftOut("the kernel needs a CUDA device")
        with as_current(self.device):
            kernel = kernel_for(self.device)
            if kernel is None:
                raise LeftOut("the kernel does not work here; torch's own layers are used")
            told = 32, *torch.randn(2, 128, device=self.device, dtype=torch.float16), 1e-6
            maps = torch.randn(1, 128, side, side, device=self.device, dtype=torch.float16)
            maps = maps.contiguous(memory_format=torch.channels_last)
            ours, again = (kernel(maps, *told, silu=True) for _ in range(2))
            off = (ours - F.silu(normalize_last(maps, *told))).abs().max().item()
            assert off < 0.05, f"off by {off:.3f}"
            assert torch.equal(ours, again), "two runs gave different bytes"
            one = self.milliseconds(lambda: kernel(maps, *told, silu=True))
            several = self.milliseconds(lambda: F.silu(normalize_last(maps, *told)))
            stock = self.milliseconds(lambda: F.silu(F.group_norm(maps, *told)))
        return f"{one:.2f} ms; in torch's layers {several:.2f} ms channels-last, {stock:.2f} ms stock"

    @torch.inference_mode()
    def graphs(self) -> str:
        """A recorded step gives the step's own bytes, also when another has been replayed."""
        if self.device.type != "cuda":
            raise LeftOut("steps are recorded on CUDA devices only")
        card, networks = narrow()
        network = Step(Networks(*(part.to(self.device) for part in networks)), card.views, embeds_tiles=True)
        none = torch.empty(1, 0, 0, device=self.device)
        images = [torch.rand(1, 3, 256, 256, device=self.device) for _ in range(3)]
        with exactly(), as_current(self.device):
            wanted = [network(each, none, {}) for each in images]
            recorded = Recorded(network, lambda error: False)
            made = [recorded(each, none, {}) for each in images]
            assert recorded.used, "the step could not be recorded"
            assert all(torch.equal(one, other) for one, other in zip(made, wanted, strict=True)), "different bytes"
            plain = self.milliseconds(lambda: network(images[0], none, {}))
            replayed = self.milliseconds(lambda: recorded(images[0], none, {}))
        return f"the same bytes; {replayed:.2f} ms replayed, {plain:.2f} ms kernel by kernel"

    def milliseconds(self, work: Callable[[], object]) -> float:
        """The best time of a few on the device."""
        times = []
        for _ in range(5):
            synchronize(self.device)
            started = time.perf_counter()
            work()
            synchronize(self.device)
            times.append(time.perf_counter() - started)
        return 1e3 * min(times)

    def out_of_memory(self) -> str:
        """With too little memory for a batch, it continues with fewer tiles, to the same picture."""
        if self.device.type != "cuda":
            raise LeftOut("memory can only be made scarce on a CUDA device")
        card, networks = load_networks(next(entry.path for entry in available() if entry.name == "fast"))  # type: ignore[arg-type]
        pixels = picture(2048, 2048)
        plenty = levels(Restorer(card, networks, self.device, 8, 512), pixels)
        give_back(self.device)
        total = torch.cuda.mem_get_info(self.device)[1]
        room = torch.cuda.memory_reserved(self.device) + 500_000_000
        torch.cuda.set_per_process_memory_fraction(room / total, self.device)
        try:
            restorer = Restorer(card, networks, self.device, 8, 512)
            scarce = levels(restorer, pixels)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)
        off = difference(scarce, plenty, pixels)
        assert off < TOLERANCE[torch.float16], f"{off:.2%} of the change differs"
        most = restorer._scheduler.most
        assert most < 8, "memory did not run short; nothing was shown"
        return f"continued with {most} tiles at a time, {off:.2%} of the change differs"

    def two_at_once(self) -> str:
        """Two restorers in two threads, on CUDA on two streams, do not disturb each other."""
        path = next(entry.path for entry in available() if entry.name == "fast")
        pictures = [self.pixels, self.pixels[::-1].copy()]
        restorers = [Restorer(*load_networks(path), self.device) for _ in range(2)]  # type: ignore[arg-type]
        alone = [levels(restorer, pixels) for restorer, pixels in zip(restorers, pictures, strict=True)]
        together: dict[int, list[Pixels]] = {0: [], 1: []}

        def work(index: int) -> None:
            with torch.cuda.stream(torch.cuda.Stream(self.device)) if self.device.type == "cuda" else nullcontext():
                together[index] = [levels(restorers[index], pictures[index]) for _ in range(3)]

        threads = [threading.Thread(target=work, args=(index,)) for index in together]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index, results in together.items():
            assert len(results) == 3, "a thread ended with an error"
            assert all(result.tobytes() == alone[index].tobytes() for result in results), "they disturbed each other"
        return "each gave its own bytes three times"

    def slowest(self) -> str:
        """Print the five slowest kernels of model fast."""
        from torch.profiler import ProfilerActivity, profile

        path = next(entry.path for entry in available() if entry.name == "fast")
        restorer = Restorer(*load_networks(path), self.device)  # type: ignore[arg-type]
        levels(restorer, self.pixels)
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device.type == "cuda" else [])]
        with profile(activities=kinds) as profiled:
            levels(restorer, self.pixels)
        own = "self_device_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        rows = sorted(profiled.key_averages(), key=lambda row: getattr(row, own, 0), reverse=True)[:5]
        return "slowest: " + ", ".join(f"{row.key[:40]} {getattr(row, own, 0) / 1e3:.1f} ms" for row in rows)


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def levels(restorer: Restorer, pixels: Pixels) -> Pixels:
    """Restore as a photo of QF 15, whatever CaVE with random weights would say."""
    return restorer.restore_levels(pixels, embedding=Embedding(restorer.embed(pixels).tokens, 15.0))


def difference(one: Pixels, other: Pixels, source: Pixels) -> float:
    """Mean difference of two restorations, as a share of the other's mean change."""
    return float(np.abs(one - other).mean() / np.abs(other - source).mean())


@contextmanager
def announced(device: torch.device) -> Iterator[None]:
    """Print what is checked and how long it took."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    click.echo(f"{device} ({name}), torch {torch.__version__}")
    started = time.perf_counter()
    yield
    click.echo(f"{time.perf_counter() - started:.0f} s in all")


@click.command()
@click.option("--device", "device_name", default="auto", show_default=True)
def main(device_name: str) -> None:
    """Make all checks."""
    device = choose_device(device_name)
    checks = Checks(device)
    with announced(device):
        for name, load in models():
            checks.run(name, lambda load=load: checks.against_cpu(load))  # type: ignore[misc]
            give_back(device)
        checks.run("out of memory", checks.out_of_memory)
        checks.run("two at once", checks.two_at_once)
        for name, check in checks.parts():
            checks.run(name, check)
        checks.run("kernels", checks.slowest)
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
