"""Where the time goes for one photo, compared with a yardstick run on the same machine in the same minute.

Run as ``python benchmarks/throughput.py [--megapixels 2] [--device cpu]``. The yardstick is the work of DnCNN-3 (Zhang
et al. 2017): twenty 3x3 convolutions of 64 channels on luma. Compare ratios, not seconds.
"""

from __future__ import annotations

import io
import resource
import time
from collections.abc import Callable

import click
import numpy as np
import torch
from PIL import Image
from torch import nn

from codiff_batch import JpegPhoto, Restorer
from codiff_batch.engine.device import choose_device
from codiff_batch.jpeg import encode_jpeg, project_to_cells


def photo_of(megapixels: float) -> bytes:
    """A JPEG at QF 20 with structure at all scales, 3:2."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    rng = np.random.default_rng(0)
    pixels = np.zeros((height, height * 3 // 2, 3))
    for scale in (2, 8, 32, 128):
        shape = (pixels.shape[0] // scale + 1, pixels.shape[1] // scale + 1, 3)
        layer = Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8))
        pixels += np.asarray(layer.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC), float) / 4
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=20)
    return buffer.getvalue()


def dncnn() -> nn.Module:
    """The layers of DnCNN-3 with random weights."""
    middle = [layer for _ in range(18) for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(inplace=True))]
    first = [nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*first, *middle, nn.Conv2d(64, 1, 3, padding=1)).eval()


def best_of(runs: int, work: Callable[[], object], device: torch.device) -> float:
    """Shortest of several runs, in seconds, after a warm-up."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


@click.command()
@click.option("--megapixels", default=2.0, show_default=True)
@click.option("--device", "device_name", default="auto", show_default=True)
@click.option("--model", default="compact", show_default=True)
@click.option("--runs", default=3, show_default=True)
def main(megapixels: float, device_name: str, model: str, runs: int) -> None:
    """Print seconds and seconds per megapixel of each part."""
    device = choose_device(device_name)
    restorer = Restorer.load(model, str(device))
    data = photo_of(megapixels)
    photo = JpegPhoto.from_bytes(data)
    pixels = photo.pixels()
    levels = restorer.restore_levels(pixels, tables=photo.header.tables)
    restored = project_to_cells(levels.copy(), photo)
    yardstick = dncnn().to(device, memory_format=torch.channels_last)
    luma = torch.rand(1, 1, 512, 512, device=device)
    tiles = photo.header.width * photo.header.height / 512**2
    with torch.inference_mode():
        parts = {
            "read headers": best_of(runs, lambda: JpegPhoto.from_bytes(data), device),
            "decode": best_of(runs, photo.pixels, device),
            "judge (CaVE on crops)": best_of(runs, lambda: restorer.estimate_qf(pixels), device),
            "restore": best_of(runs, lambda: restorer.restore_levels(pixels, tables=photo.header.tables), device),
            "constrain": best_of(runs, lambda: project_to_cells(levels.copy(), photo), device),
            "encode": best_of(runs, lambda: encode_jpeg(restored, photo, note="codiff-batch benchmark"), device),
            "yardstick (DnCNN-3 work)": tiles * best_of(runs, lambda: yardstick(luma), device),
        }
    size = photo.header.width * photo.header.height / 1e6
    click.echo(
        f"{photo.header.width}x{photo.header.height}, {device}, {torch.get_num_threads()} threads, model {model}\n"
    )
    click.echo("| part | s | s/MP | of the yardstick |\n|---|---|---|---|")
    for name, seconds in parts.items():
        share = seconds / parts["yardstick (DnCNN-3 work)"]
        click.echo(f"| {name} | {seconds:.3f} | {seconds / size:.3f} | {share:.2f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    click.echo(f"\npeak memory of this process {peak:.2f} GB")


if __name__ == "__main__":
    main()
