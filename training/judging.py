"""Measure the judge: how many good pictures it restores, and how many bad ones it skips.

Run as ``python -m training.evaluate --judging FOLDER``, with a folder of lossless photos that were not used for
calibration. Good pictures are saved once, at 75 and more, by several encoders; bad ones were compressed at 10 to 50 and
then saved again at 80 to 95: on the same grid, shifted, or made smaller.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from codiff_batch.engine import Action, Restorer
from codiff_batch.engine.photo import Decoded, judged, restore
from codiff_batch.engine.settling import Settled
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.jpeg.quantization import ijg_table
from codiff_batch.metrics import psnr
from codiff_batch.settings import Judging, Settings
from training.evaluate import lossless_photos
from training.judged_pictures import DRAWN, FROM_PHOTOS
from training.photos import Pixels

GOOD_QFS = (75, 85, 92, 98)
BAD_QFS = (10, 20, 30, 40, 50)
SECOND_QFS = (80, 85, 90, 95)
SMALLER = 0.75

ENCODERS = ("4:2:0", "4:4:4", "progressive", "even tables", "gray")
"""Ways to save; the steps of ``even tables`` rise less steeply than the IJG's, like mozjpeg's and jpegli's."""


@dataclass(frozen=True)
class Case:
    """One file to judge."""

    kind: str
    history: str
    """``good``, or what happened: ``on the grid``, ``shifted``, ``made smaller``."""
    qf: int
    """Of the compression that counts."""
    encoder: str
    data: bytes
    clean: Pixels
    """The ideal result."""


@dataclass(frozen=True)
class Found:
    """The result of a case."""

    case: Case
    restored: bool
    unbounded: bool
    """Whether the constraint was lifted."""
    gain: float
    """PSNR gain in dB; 0 if it was skipped."""
    reason: str


def save(pixels: Pixels, qf: int, encoder: str) -> bytes:
    """Encode with Pillow in one of several ways."""
    options: dict[str, Any] = {"quality": qf, "subsampling": 0 if encoder == "4:4:4" else 2}
    if encoder == "progressive":
        options["progressive"] = True
    if encoder == "even tables":
        luma, chroma = (np.sqrt(ijg_table(qf, chroma=c) * 0.7 * ijg_table(qf, chroma=c).mean()) for c in (False, True))
        options["qtables"] = [np.rint(t).clip(1, 255).astype(int).ravel().tolist() for t in (luma, chroma)]
        del options["quality"]
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert("L") if encoder == "gray" else image).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def good(kind: str, picture: Pixels, rng: np.random.Generator) -> Iterator[Case]:
    """A picture saved once, at each good quality."""
    for qf in GOOD_QFS:
        encoder = str(rng.choice(ENCODERS))
        clean = picture if encoder != "gray" else np.asarray(Image.fromarray(picture).convert("L"))
        yield Case(kind, "good", qf, encoder, save(picture, qf, encoder), clean)


def saved_again(kind: str, picture: Pixels, rng: np.random.Generator) -> Iterator[Case]:
    """A picture compressed and saved again, at each bad quality in each way."""
    for qf in BAD_QFS:
        first = JpegPhoto.from_bytes(save(picture, qf, "4:2:0")).pixels()
        down, right = (int(v) for v in rng.integers(1, 8, 2))
        size = tuple(round(side * SMALLER) for side in picture.shape[1::-1])
        ways = {
            "on the grid": (first, picture),
            "shifted": (first[down:, right:], picture[down:, right:]),
            "made smaller": tuple(_resized(p, size) for p in (first, picture)),
        }
        for history, (changed, clean) in ways.items():
            second, encoder = int(rng.choice(SECOND_QFS)), str(rng.choice(ENCODERS[:3]))
            data = save(np.ascontiguousarray(changed), second, encoder)
            yield Case(kind, history, qf, encoder, data, clean)


def _resized(picture: Pixels, size: tuple[int, ...]) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize((size[0], size[1]), Image.Resampling.BICUBIC))


def cases(folder: Path, every: int) -> Iterator[Case]:
    """All cases from a folder's photos, and as many drawn pictures of each kind as there are photos."""
    for number, photo in enumerate(lossless_photos(folder, every)):
        rng = np.random.default_rng(number)
        colour = photo.clean if photo.clean.ndim == 3 else np.repeat(photo.clean[..., None], 3, axis=2)
        for kind, change in FROM_PHOTOS.items():
            yield from good(kind, change(colour, rng), rng)
        yield from saved_again("photo", colour, rng)
        for kind, draw in DRAWN.items():
            yield from good(kind, draw(rng), rng)


def try_case(case: Case, restorer: Restorer, min_qf: float) -> Found:
    """Judge one file; if a good one would be restored, restore it to measure the loss."""
    decoded, settings = Decoded.of(JpegPhoto.from_bytes(case.data)), Settings()
    embedding = restorer.embed_crops([decoded.crops(settings)])[0]
    seen = judged(decoded, embedding, settings, Judging(min_qf=min_qf))
    if seen.verdict.action is Action.SKIP or case.history != "good":
        return Found(case, seen.verdict.action is Action.RESTORE, False, 0.0, seen.verdict.reason)
    restored = restore(decoded, restorer, settings, embedding=embedding)
    gain = psnr(restored.pixels, case.clean) - psnr(decoded.pixels, case.clean)
    return Found(case, True, restored.settled is Settled.SAVED_AGAIN, gain, seen.verdict.reason)


def tables(found: Sequence[Found]) -> str:
    """Markdown tables: false restores by kind and by encoder, and what was found of pictures that were saved again."""
    fine, bad = ([f for f in found if (f.case.history == "good") is good] for good in (True, False))
    parts = []
    for name in ("kind", "encoder"):
        values = dict.fromkeys(getattr(f.case, name) for f in fine)
        rows = {value: [f for f in fine if getattr(f.case, name) == value] for value in values}
        parts.append(_false_restores(name, {**rows, "**all**": fine}))
    titles = " | ".join(f"QF {qf}" for qf in BAD_QFS)
    lines = [f"| saved again after | {titles} | all |", "|---" * (len(BAD_QFS) + 2) + "|"]
    for history in dict.fromkeys(f.case.history for f in bad):
        rows_ = [f for f in bad if f.case.history == history]
        by_qf = [[f for f in rows_ if f.case.qf == qf] for qf in BAD_QFS]
        lines.append(f"| {history} | {' | '.join(_share(group) for group in (*by_qf, rows_))} |")
    return "\n\n".join([*parts, "\n".join(lines)])


def _false_restores(title: str, groups: dict[str, list[Found]]) -> str:
    lines = [f"| {title} | good pictures | restored | without bound | worst gain dB |", "|---|---|---|---|---|"]
    for name, group in groups.items():
        unbounded = sum(f.unbounded for f in group)
        worst = min((f.gain for f in group if f.restored), default=0.0)
        lines.append(f"| {name} | {len(group)} | {_share(group)} | {unbounded} | {worst:+.2f} |")
    return "\n".join(lines)


def _share(group: Iterable[Found]) -> str:
    restored = [f.restored for f in group]
    return f"{100 * sum(restored) / len(restored):.1f} %" if restored else ""


def measure_judging(folder: Path, model: str, every: int, min_qf: float = 60) -> list[Found]:
    """Judge all cases made from a folder's photos."""
    restorer = Restorer.load(model)
    return [try_case(case, restorer, min_qf) for case in tqdm(cases(folder, every), unit="file", mininterval=5)]
