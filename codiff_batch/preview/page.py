"""The preview as a single self-contained page."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codiff_batch import __version__
from codiff_batch.batch.options import DEFAULT_MAX_PIXELS, BatchOptions
from codiff_batch.files.atomic import write_atomically
from codiff_batch.files.opening import DEFAULT_MAX_BYTES
from codiff_batch.pages.files import link, render, shown
from codiff_batch.pages.shells import SHELLS, enter, join, usual_shell
from codiff_batch.pages.thumbnails import upright
from codiff_batch.preview.box import Box
from codiff_batch.preview.judging import Photo
from codiff_batch.preview.settings import Setting
from codiff_batch.preview.work import Pace, Sample

LARGEST_PROFILE = 100_000
"""Largest colour profile, in bytes, kept in a picture on the page; those of displays and cameras are far smaller."""


@dataclass(frozen=True)
class Preview:
    """The page's content."""

    options: BatchOptions
    """Of the intended run."""
    photos: Sequence[Photo]
    """All of them, judged."""
    judging_seconds: float
    samples: Sequence[Sample]
    paces: Mapping[Setting, Pace]
    listed: tuple[str, ...] = ()
    """Arguments that name the list of files again, if the photos came from one."""


def write_preview(page: Path, preview: Preview) -> None:
    """Write the page for those who may read the photos, replacing an earlier one.

    Raises:
        PhotoError: the file system refuses.
    """
    made = f"codiff-batch {__version__}, {time.strftime('%Y-%m-%d %H:%M')}"
    shown = [photo.outcome.source for photo in preview.photos]
    write_atomically(page, render("preview.html", made, _data(page, preview)).encode(), shown=shown, overwrite=True)


def _data(page: Path, preview: Preview) -> dict[str, Any]:
    options = preview.options
    settings = [setting for setting, pace in preview.paces.items() if pace.per_megapixel]
    return {
        "minQf": options.judging.min_qf,
        "paths": [shown(path) for path in options.paths],
        "photos": [_photo(page, photo) for photo in preview.photos],
        "judging": round(preview.judging_seconds, 3),
        "settings": [_setting(setting, preview.paces[setting]) for setting in settings],
        "samples": [_sample(sample, settings) for sample in preview.samples if sample.versions],
        "shell": usual_shell(),
        "commands": {shell: _command(preview, settings, shell) for shell in SHELLS},
        "stdin": "-" in preview.listed,
    }


def _photo(page: Path, photo: Photo) -> dict[str, Any]:
    outcome = photo.outcome
    told: dict[str, Any] = {
        "name": shown(outcome.source.name),
        "folder": shown(outcome.source.parent),
        "header": outcome.header_qf,
        "estimate": outcome.estimated_qf,
        "quality": photo.quality,
        "size": [outcome.width, outcome.height],
        "left": "",
    }
    if photo.quality is not None:
        return told | {"link": link(page, outcome.source)}
    return told | {"left": str(outcome.outcome), "reason": shown(outcome.reason)}


def _setting(setting: Setting, pace: Pace) -> dict[str, Any]:
    return {
        "words": shown(setting.words),
        "model": shown(setting.model),
        "texture": setting.texture,
        "strength": setting.strength,
        "perMegapixel": round(pace.per_megapixel, 4),
        "perPhoto": round(pace.per_photo, 4),
    }


def _command(preview: Preview, settings: Sequence[Setting], shell: Any) -> dict[str, Any]:
    """The command line in pieces; ``--min-qf`` goes between start and setting."""
    options = preview.options
    # The page may be opened, and the command pasted, in any folder.
    paths = [str(path.absolute()) for path in options.paths]
    start = join(["codiff-batch", *preview.listed, *paths], shell)
    end = [f"--exclude={pattern}" for pattern in options.exclude]
    if options.devices != ("auto",):
        end += ["--device", ",".join(options.devices)]
    if options.precision != "auto":
        end += ["--precision", options.precision]
    if options.types != ("jpeg",):
        end += ["--types", ",".join(options.types)]
    end += ["--again"] * options.again + ["--include-signed"] * options.include_signed
    if options.models_dir is not None:
        end += ["--models-dir", str(options.models_dir.absolute())]
    for option, limit, usual in (
        ("--max-megapixels", options.max_pixels, DEFAULT_MAX_PIXELS),
        ("--max-megabytes", options.max_bytes, DEFAULT_MAX_BYTES),
    ):
        if limit != usual:
            end += [option, f"{limit / 1e6:.10g}"]
    return {
        # Names in a list, and their outputs, are relative to the folder where the list was read.
        "start": f"{enter(Path.cwd(), shell)}{start}" if preview.listed else start,
        "settings": [join(setting.arguments, shell) for setting in settings],
        "end": join(end, shell),
    }


def _sample(sample: Sample, settings: Sequence[Setting]) -> dict[str, Any]:
    photo, header = sample.photo, sample.photo.header
    metadata = photo.metadata()
    orientation, icc = metadata.orientation, sample.icc
    before = sample.before
    facts = [metadata.camera, f"{header.width}x{header.height}", header.sampling, header.process]
    box = frame(sample.shown, header.width, header.height, orientation)
    height, width = (before.shape[1], before.shape[0]) if (orientation or 1) > 4 else before.shape[:2]
    return {
        "photo": sample.chosen.number,
        "why": sample.chosen.why,
        "facts": shown(", ".join(fact for fact in facts if fact)),
        "whole": _picture(sample.whole, orientation, icc, "JPEG", quality=85),
        "box": box,
        "width": width,
        "height": height,
        "before": _lossless(before, orientation, icc),
        "versions": [_version(sample, setting, before) for setting in settings],
    }


def _version(sample: Sample, setting: Setting, before: NDArray[np.uint8]) -> dict[str, Any] | None:
    version = sample.versions.get(setting)
    if version is None:
        return None
    difference = np.abs(version.pixels.astype(np.int16) - before)
    return {
        "picture": _lossless(version.pixels, sample.photo.metadata().orientation, sample.icc),
        "mean": round(float(difference.mean()), 2),
        "largest": int(difference.max()),
    }


def _lossless(pixels: NDArray[np.uint8], orientation: int | None, icc: bytes | None) -> str:
    return _picture(Image.fromarray(pixels), orientation, icc, "WEBP", lossless=True, method=2, quality=50)


def _picture(picture: Image.Image, orientation: int | None, icc: bytes | None, kind: str, **options: Any) -> str:
    """A picture as a data URL, upright, with its profile unless that is unusually large."""
    buffer = io.BytesIO()
    profile = icc if icc and len(icc) <= LARGEST_PROFILE else None
    upright(picture, orientation).save(buffer, kind, icc_profile=profile, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def frame(box: Box, width: int, height: int, orientation: int | None) -> list[float]:
    """Left, top, width and height of a box as fractions of the upright picture."""
    left, top, wide, high = box.left / width, box.top / height, box.width / width, box.height / height
    right, bottom = 1 - left - wide, 1 - top - high
    turned = {
        2: (right, top, wide, high),
        3: (right, bottom, wide, high),
        4: (left, bottom, wide, high),
        5: (top, left, high, wide),
        6: (bottom, left, high, wide),
        7: (bottom, right, high, wide),
        8: (top, right, high, wide),
    }.get(orientation or 1, (left, top, wide, high))
    return [round(value, 5) for value in turned]
