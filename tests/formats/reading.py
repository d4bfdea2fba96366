"""Reads pictures back by programs that are not ours."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

MOGRIFY = ["mogrify"]
"""ImageMagick, which takes all files at once."""
DECODERS: dict[str, list[str]] = {
    "webp": ["dwebp", "-quiet", "{input}", "-o", "{output}"],
    "avif": ["avifdec", "{input}", "{output}"],
    "jxl": ["djxl", "{input}", "{output}", "--quiet"],
}
"""Of formats that ImageMagick does not decode best. Debian: imagemagick, webp, libavif-bin, libjxl-tools."""

_AT_ONCE = 10
"""ImageMagick gives up after some hundreds of warnings about fields that it does not know."""


def decoder_of(name: str) -> list[str]:
    """The command that decodes a format."""
    return DECODERS.get(name, MOGRIFY)


def require(*programs: str) -> None:
    """Skip a test whose programs are not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def decoded(paths: Sequence[Path], name: str, folder: Path) -> dict[str, Image.Image]:
    """The pictures as others decode them, by stem; with the profile where the decoder hands it on."""
    folder.mkdir()
    if decoder_of(name) == MOGRIFY:
        for start in range(0, len(paths), _AT_ONCE):
            some = map(str, paths[start : start + _AT_ONCE])
            command = ["mogrify", "-path", str(folder), "-depth", "8", "-format", "ppm", *some]
            subprocess.run(command, capture_output=True, check=False)
    else:
        for path in paths:
            output = folder / f"{path.stem}.png"
            command = [part.format(input=path, output=output) for part in decoder_of(name)]
            subprocess.run(command, capture_output=True, check=False)
            if name == "avif" and not is_whole(output):
                # Its PNG writer refuses some profiles of the corpus.
                subprocess.run([*command[:1], "--ignore-icc", *command[1:]], capture_output=True, check=False)
    images = {}
    for path in paths:
        with Image.open(next(folder.glob(f"{path.stem}.*"))) as image:
            image.load()
        images[path.stem] = image
    return images


def is_whole(png: Path) -> bool:
    """Return True if a PNG file was written to its end."""
    return png.is_file() and png.read_bytes().endswith(b"IEND\xaeB\x60\x82")


def exiftool(folder: Path) -> dict[str, dict[str, Any]]:
    """Every value by file and family:group:tag, binary ones included."""
    command = ["exiftool", "-json", "-G0:1", "-a", "-u", "-n", "-b", "-q", str(folder)]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return {Path(row["SourceFile"]).stem: row for row in json.loads(printed)}


def densities(paths: Sequence[Path]) -> dict[str, tuple[float, float]]:
    """Pixels per millimetre, across and down, as libvips reads them."""
    columns = []
    for field in ("xres", "yres"):
        command = ["vipsheader", "-f", field, *map(str, paths)]
        columns.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    rows = zip(paths, *columns, strict=True)
    return {path.stem: (float(x), float(y)) for path, x, y in rows}


def rms(first: np.ndarray, second: np.ndarray) -> float:
    """Root of the mean squared difference, in levels."""
    return float(np.sqrt(np.mean((first.astype(np.float64) - second) ** 2)))
