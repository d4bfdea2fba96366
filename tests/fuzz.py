"""Mutated JPEGs through inspect and the encoders: every one must end in an outcome, soon, in bounded memory.

    python -m tests.fuzz --count 20000 --seed 1

Each block of files is looked at by a process of its own with a limit on its memory, so that a crash in a decoder's C
code is found like any other. What ends in anything but an outcome is kept in ``--keep``, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
from PIL import Image

from codiff_batch.engine.judge import judge_by_header
from codiff_batch.errors import PhotoError
from codiff_batch.formats import Order, encode
from codiff_batch.jpeg import JpegPhoto, can_project, project_to_cells
from tests.photos import jpeg, scene

BLOCK = 1000
"""Files that one process looks at."""

MEMORY = 3 << 30
"""Bytes of address space of such a process; a plain one has 1 GiB of it."""

SECONDS = 20.0
"""Of a processor that one file may take."""

MAX_PIXELS = 4_000_000
FORMATS = ("jpeg", "png", "webp", "tiff")
NOTE = "codiff-batch 0 model=fuzz qf=20"


def seeds() -> list[bytes]:
    """Small photos of the kinds that there are, with all kinds of metadata."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    image = scene(48, 40)
    icc = bytes(400)
    data = [
        jpeg(20, image=image, exif=exif, comment=b"words", icc_profile=icc),
        jpeg(60, image=image, progressive=True, exif=exif),
        jpeg(30, image=image.convert("L"), exif=exif),
        jpeg(75, image=image, subsampling=0),
        jpeg(40, image=image, restart_marker_blocks=2, xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
    ]
    frames = io.BytesIO()
    image.save(frames, "MPO", save_all=True, append_images=[scene(48, 40, seed=1)])
    return [*data, frames.getvalue(), data[0] + bytes(3000)]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change a file in a few places: bytes, lengths, counts, segments, its end."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(2, len(changed)) if len(changed) > 2 else 0
        match rng.randrange(8):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                changed[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xd9"))
            case 3:
                del changed[at : at + rng.randrange(1, 40)]
            case 4:
                changed[at:at] = rng.randbytes(rng.randrange(1, 20))
            case 5:
                start = rng.randrange(len(changed))
                changed[at:at] = changed[start : start + rng.randrange(200)]
            case 6:
                marker = changed.find(b"\xff", at)
                if marker >= 0:
                    changed[marker + 1 : marker + 4] = rng.randbytes(3)
            case 7:
                # The headers are where lengths and counts are.
                changed[rng.randrange(min(len(changed), 700))] = rng.choice((0, 1, 2, 255, rng.randrange(256)))
        if len(changed) < 4:
            break
    return bytes(changed)


def files(seed: int, start: int, stop: int) -> Iterator[bytes]:
    """The files of a run from one number to another; the same each time."""
    originals = seeds()
    for number in range(start, stop):
        rng = random.Random(f"{seed}-{number}")
        yield mutated(rng.choice(originals), rng)


def look(path: Path) -> str:
    """Take a file the way that inspect and the batch take it; return what became of it."""
    try:
        photo = JpegPhoto.open(path, max_pixels=MAX_PIXELS)
        photo.metadata().kinds()
        judge_by_header(photo.header.qf, 60)
        pixels = photo.pixels()
    except PhotoError as error:
        return type(error).__name__
    for name in FORMATS:
        with contextlib.suppress(PhotoError):
            encode(pixels, photo, name, Order(NOTE, 95, True))
    if can_project(photo):
        try:
            project_to_cells(pixels.astype("float32"), photo)
        except PhotoError as error:
            return type(error).__name__
    return "whole"


def look_at_block(seed: int, start: int, stop: int, progress: Path) -> int:
    """What a process of its own does; writes the number of the file in hand, and prints what became of each."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    code = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.jpg")
        for number, data in zip(range(start, stop), files(seed, start, stop), strict=True):
            progress.write_text(str(number))
            path.write_bytes(data)
            signal.setitimer(signal.ITIMER_PROF, 2 * SECONDS)  # hung in C code: the process dies
            began = time.process_time()
            try:
                outcome = look(path)
                if time.process_time() - began > SECONDS:
                    outcome = "SLOW"
            except BaseException:
                traceback.print_exc()
                outcome = "RAISED"
            signal.setitimer(signal.ITIMER_PROF, 0)
            code |= outcome.isupper()
            click.echo(f"{number} {outcome}")
    return code


def run(count: int, seed: int, keep: Path) -> Counter[str]:
    """Look at so many files; return how often each outcome came, those in capitals being findings."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        progress, start = Path(folder, "progress"), 0
        while start < count:
            stop = min(start + BLOCK, count)
            block = ["--block", str(start), str(stop), str(progress), "--seed", str(seed)]
            ran = subprocess.run([sys.executable, "-m", "tests.fuzz", *block], capture_output=True, text=True)
            told = dict(line.split() for line in ran.stdout.splitlines())
            if len(told) < stop - start:
                last = int(progress.read_text()) if progress.exists() else -1
                if not start <= last < stop:
                    raise RuntimeError(f"the fuzzer itself does not work: {ran.stderr[-2000:]}")
                stop = last + 1
                told[str(last)] = "DIED"
            outcomes.update(told.values())
            for number in (number for number, outcome in told.items() if outcome.isupper()):
                keep.mkdir(parents=True, exist_ok=True)
                (data,) = files(seed, int(number), int(number) + 1)
                (keep / f"{seed}-{number}-{told[number]}.jpg").write_bytes(data)
                click.echo(f"{number} {told[number]} {ran.stderr[-2000:]}", err=True)
            start = stop
            click.echo(f"{start} files", err=True)
    return outcomes


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--block", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.block:
        return look_at_block(asked.seed, int(asked.block[0]), int(asked.block[1]), Path(asked.block[2]))
    outcomes = run(asked.count, asked.seed, asked.keep)
    for outcome, number in outcomes.most_common():
        click.echo(f"{number:>7} {outcome}")
    return int(any(outcome.isupper() for outcome in outcomes))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
