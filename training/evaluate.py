"""Measure models on lossless photos: compress, restore, compare.

Run as ``python -m training.evaluate --photos DIR [--model NAME]... [--qf 10]... [--json FILE]``. Other
networks are loaded through spandrel (``--outside FILE``). Any other tool restores what ``--write-jpegs DIR`` wrote and
is measured by ``--written DIR``. Further metrics are those of ``codiff_batch/metrics.py`` and of pyiqa (``--metric
musiq``), if it and its weights are installed.

PSNR and SSIM are over RGB as FBCNN and SwinIR publish them, so the rows are comparable with theirs. PSNR-B follows its
own paper and comes out lower than in their tables.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codiff_batch.engine import Restorer, restore_photo
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.metrics import METRICS, psnr, ssim
from codiff_batch.models.catalogue import find
from codiff_batch.perceptual import Perceptual, as_tensor
from training import documents, scorecard
from training.patterns import HELD_OUT, KINDS, draw_pattern
from training.photos import SUFFIXES, Pixels

Metric = Callable[[Pixels, Pixels], float]
"""Scores a picture, (H, W, 3) or (H, W), against its original or alone."""

SUBSAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


PUBLISHED: dict[tuple[str, int], dict[str, float]] = {
    ("FBCNN (published)", 5): {"lpips": 0.374, "dists": 0.235},
    ("FBCNN (published)", 10): {"lpips": 0.250, "dists": 0.179},
    ("FBCNN (published)", 20): {"lpips": 0.158, "dists": 0.132},
    ("CODiff (paper)", 5): {"lpips": 0.206, "dists": 0.112},
    ("CODiff (paper)", 10): {"lpips": 0.1428, "dists": 0.0867},
    ("CODiff (paper)", 20): {"lpips": 0.1101, "dists": 0.0692},
}
"""Rows of the paper's Table 1 for LIVE1."""


@dataclass(frozen=True)
class Score:
    """One photo at one QF through one model."""

    photo: str
    model: str
    qf: int
    psnr: float
    ssim: float
    psnr_b: float
    estimated_qf: float
    lpips: float = float("nan")
    dists: float = float("nan")
    others: dict[str, float] = field(default_factory=dict)
    """Further metrics: our own by title, pyiqa's by its name, such as musiq."""


def psnr_b(image: Pixels, reference: Pixels) -> float:
    """PSNR with the blocking effect factor added to the error (Yim and Bovik 2011), in dB, mean over channels."""
    stacked = [pixels.reshape(*pixels.shape[:2], -1).astype(np.float64) for pixels in (image, reference)]
    values = []
    for plane, truth in zip(*(np.moveaxis(pixels, 2, 0) for pixels in stacked), strict=True):
        error = np.mean((plane - truth) ** 2) + _blocking(plane)
        values.append(10 * np.log10(255**2 / error) if error else np.inf)
    return float(np.mean(values))


def _blocking(plane: NDArray[np.float64]) -> float:
    """Blocking effect factor of one channel (H, W): how much larger steps at 8-pixel boundaries are than elsewhere."""
    height, width = plane.shape
    across, down = np.diff(plane, axis=1) ** 2, np.diff(plane, axis=0) ** 2
    at_columns, at_rows = np.arange(7, width - 1, 8), np.arange(7, height - 1, 8)
    boundary = across[:, at_columns].sum() + down[at_rows].sum()
    inside = across.sum() + down.sum() - boundary
    boundary_count = height * len(at_columns) + width * len(at_rows)
    inside_count = across.size + down.size - boundary_count
    boundary_mean, inside_mean = boundary / boundary_count, inside / inside_count
    if boundary_mean <= inside_mean:
        return 0.0
    return float(np.log2(8) / np.log2(min(height, width)) * (boundary_mean - inside_mean))


@dataclass(frozen=True)
class Resave:
    """A second compression after the first, as by an editor."""

    qf: int
    shift: int
    """Rows and columns cropped before it, so that the 8x8 grids differ."""


class Subject(NamedTuple):
    """A lossless picture to measure on."""

    name: str
    clean: Pixels
    """uint8 (H, W, 3) or (H, W)"""


def find_lossless(folder: Path) -> list[Path]:
    """The pictures of a folder to measure on, in a stable order."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def lossless_photos(folder: Path, every: int = 1, crop: int | None = None) -> Iterator[Subject]:
    """The pictures of a folder, or every N-th of them; only their central N x N pixels if asked for."""
    for path in find_lossless(folder)[::every]:
        with Image.open(path) as image:
            clean = np.asarray(image if image.mode in ("RGB", "L") else image.convert("RGB"))
        if crop is not None:
            top, left = ((side - crop) // 2 for side in clean.shape[:2])
            clean = np.ascontiguousarray(clean[top : top + crop, left : left + crop])
        yield Subject(path.stem, clean)


def held_out_patterns(count: int) -> Iterator[Subject]:
    """Held-out drawn patterns, ``count`` of each kind."""
    return _drawn(KINDS, draw_pattern, count)


def held_out_documents(count: int) -> Iterator[Subject]:
    """Held-out drawn pages, screens, charts, gradients and flat pictures, ``count`` of each kind."""
    return _drawn(documents.KINDS, documents.draw_document, count)


def _drawn(kinds: Iterable[str], draw: Callable[[str, int], Pixels], count: int) -> Iterator[Subject]:
    for kind in kinds:
        for seed in range(HELD_OUT, HELD_OUT + count):
            yield Subject(f"{kind}_{seed}", draw(kind, seed))


def compress(pixels: Pixels, qf: int, sampling: str) -> JpegPhoto:
    """Pillow's JPEG of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=qf, subsampling=SUBSAMPLING[sampling])
    return JpegPhoto.from_bytes(buffer.getvalue())


class Outside:
    """Another restoration network, of any architecture that spandrel knows.

    Raises:
        click.UsageError: spandrel is not installed, or does not know the file.
    """

    def __init__(self, file: Path) -> None:
        try:
            from spandrel import ImageModelDescriptor, ModelLoader
        except (ImportError, RuntimeError) as error:
            raise click.UsageError(f"--outside needs spandrel, from the extra codiff-batch[eval]: {error}") from error
        try:
            model = ModelLoader().load_from_file(file)
        except Exception as error:  # spandrel tries dozens of architectures, each with its own errors.
            raise click.UsageError(f"--outside {file}: {(str(error) or repr(error)).splitlines()[0]}") from error
        if not isinstance(model, ImageModelDescriptor) or model.scale != 1:
            raise click.UsageError(f"{file} is not a network that restores pictures at their own size")
        self.name, self._model = file.stem, model.eval()

    def __call__(self, pixels: Pixels) -> Pixels:
        """Restore RGB or gray pixels."""
        import torch

        with torch.inference_mode():
            restored = self._model(as_tensor(pixels))
        levels = restored[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
        return np.asarray(levels if pixels.ndim == 3 else levels.mean(axis=2).round().astype(np.uint8))


def pyiqa_metrics(names: Iterable[str]) -> dict[str, Metric]:
    """Metrics of pyiqa, with and without a reference.

    Raises:
        click.UsageError: pyiqa is not installed, or has no such metric or not its weights.
    """
    made = {}
    for name in names:
        try:
            import pyiqa

            metric = pyiqa.create_metric(name)
        except Exception as error:  # pyiqa raises whatever its many networks and their downloads do.
            raise click.UsageError(f"--metric {name}: {str(error).splitlines()[0]}") from error

        def call(picture: Pixels, original: Pixels, metric: Any = metric) -> float:
            shown = (picture,) if metric.metric_mode == "NR" else (picture, original)
            return float(metric(*map(as_tensor, shown)))

        made[name] = call
    return made


def written_by_another(folder: Path, photo: str, qf: int) -> Pixels:
    """What another tool made of ``<photo>_q<QF>.jpg``: a lossless picture of the same name.

    Raises:
        click.UsageError: there is none.
    """
    found = [path for path in folder.glob(f"{photo}_q{qf}.*") if path.suffix.lower() in SUFFIXES]
    if not found:
        raise click.UsageError(f"{folder} has no lossless picture {photo}_q{qf}")
    with Image.open(found[0]) as image:
        return np.asarray(image if image.mode in ("RGB", "L") else image.convert("RGB"))


def variant(name: str, texture: float | None) -> str:
    """A model's name with an amount of texture; None is its own amount."""
    return name if texture is None else f"{name}, texture {texture:g}"


@dataclass(frozen=True)
class Contestants:
    """What is measured beside the JPEG itself."""

    restorers: tuple[Restorer, ...] = ()
    textures: tuple[float | None, ...] = (None,)
    """Amounts for models that add texture; None is a model's own."""
    outside: tuple[Outside, ...] = ()
    written: tuple[Path, ...] = ()
    """Folders of pictures that another tool restored."""

    def pictures(
        self, photo: str, qf: int, jpeg: JpegPhoto, decoded: Pixels, *, constrain: bool
    ) -> Iterable[tuple[str, Pixels, float]]:
        """Name, picture and estimated QF of each."""
        for restorer in self.restorers:
            estimate = restorer.estimate_qf(decoded)
            for texture in self.textures if restorer.card.adds_texture else (None,):
                restored = restore_photo(jpeg, restorer, constrain=constrain, texture=texture, pixels=decoded)
                yield variant(restorer.name, texture), restored, estimate
        for network in self.outside:
            yield network.name, network(decoded), float("nan")
        for folder in self.written:
            yield folder.name, written_by_another(folder, photo, qf), float("nan")


def measure(
    subject: Subject,
    qf: int,
    sampling: str,
    contestants: Contestants,
    *,
    constrain: bool,
    perceptual: Perceptual | None = None,
    metrics: Mapping[str, Metric] | None = None,
    resave: Resave | None = None,
    write_jpegs: Path | None = None,
) -> Iterable[Score]:
    """Score the JPEG itself and each contestant on one photo."""
    photo, clean = subject
    jpeg = compress(clean, qf, sampling)
    if resave is not None:
        clean = clean[resave.shift :, resave.shift :]
        jpeg = compress(jpeg.pixels()[resave.shift :, resave.shift :], resave.qf, sampling)
    if write_jpegs is not None:
        (write_jpegs / f"{photo}_q{qf}.jpg").write_bytes(jpeg.data)
    decoded = jpeg.pixels()
    results = [("jpeg", decoded, jpeg.header.qf)]
    results += contestants.pictures(photo, qf, jpeg, decoded, constrain=constrain)
    for name, picture, estimate in results:
        faithful = psnr(picture, clean), ssim(picture, clean), psnr_b(picture, clean)
        seen = perceptual(picture, clean) if perceptual else (float("nan"),) * 2
        others = {metric: judge(picture, clean) for metric, judge in (metrics or {}).items()}
        yield Score(photo, name, qf, *faithful, estimate, *seen, others)


def table(scores: list[Score], *, published: bool = False) -> str:
    """Mean scores as a Markdown table, with the gain over the JPEG and the worst photo's gain.

    Args:
        published: append the :data:`PUBLISHED` rows, which are for LIVE1 only.
    """
    plain = {(s.photo, s.qf): s.psnr for s in scores if s.model == "jpeg"}
    others = list(scores[0].others)
    titles = ("model", "QF", "PSNR", "SSIM", "PSNR-B", "LPIPS", "DISTS", "gain dB", "worst", "QF error", *others)
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for model in dict.fromkeys(s.model for s in scores):
        for qf in sorted({s.qf for s in scores}):
            rows = [s for s in scores if s.model == model and s.qf == qf]
            gains = [s.psnr - plain[s.photo, qf] for s in rows]
            means = [np.mean([getattr(s, name) for s in rows]) for name in ("psnr", "ssim", "psnr_b", "lpips", "dists")]
            error = np.mean([abs(s.estimated_qf - qf) for s in rows])
            lines.append(
                f"| {model} | {qf} | {means[0]:.2f} | {means[1]:.4f} | {means[2]:.2f} "
                f"| {means[3]:.4f} | {means[4]:.4f} | {np.mean(gains):+.2f} | {min(gains):+.2f} | {error:.1f} |"
                + "".join(f" {np.mean([s.others[name] for s in rows]):.4f} |" for name in others)
            )
    measured = {score.qf for score in scores}
    for (name, qf), row in PUBLISHED.items() if published else ():
        if qf in measured:
            lines.append(f"| {name} | {qf} | | | | {row['lpips']:.4f} | {row['dists']:.4f} |{' |' * (3 + len(others))}")
    return "\n".join(lines)


_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Lossless photos.")
@click.option(
    "--patterns",
    type=click.IntRange(1),
    metavar="N",
    help="Measure on N drawn patterns of each kind (facades, bricks, text ...) instead.",
)
@click.option(
    "--documents",
    "pages",
    type=click.IntRange(1),
    metavar="N",
    help="Measure on N drawn pages, screens, charts, gradients and flat pictures of each kind instead.",
)
@click.option(
    "--judging",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Measure the judge on lossless photos instead: false restores and false skips.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("compact",),
    show_default=True,
    help="Name or folder of a model; pass 'none' to measure no model.",
)
@click.option(
    "--texture",
    "textures",
    multiple=True,
    type=click.FloatRange(0, 1),
    help="Measure with these amounts of texture as well as with the model's own.",
)
@click.option(
    "--qf", "qfs", multiple=True, type=click.IntRange(1, 100), default=(5, 10, 20, 40, 60, 80, 90), show_default=True
)
@click.option("--sampling", type=click.Choice(list(SUBSAMPLING)), default="4:2:0", show_default=True)
@click.option("--constrain/--no-constrain", default=True, show_default=True)
@click.option("--every", default=1, show_default=True, help="Use every N-th photo only.")
@click.option("--crop", type=click.IntRange(64), metavar="N", help="Use the middle N x N pixels of each photo only.")
@click.option("--resave", type=click.IntRange(1, 100), help="Save each JPEG again at this QF before it is restored.")
@click.option(
    "--shift", type=click.IntRange(0, 7), default=0, show_default=True, help="Pixels to crop before --resave."
)
@click.option(
    "--networks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of backbones for LPIPS and DISTS, which are left out without it (see codiff_batch/perceptual.py).",
)
@click.option("--outside", multiple=True, type=_file, help="Another network to measure, loaded with spandrel.")
@click.option(
    "--written",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of <photo>_q<QF>.png that another tool restored, to measure as well.",
)
@click.option(
    "--write-jpegs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the JPEGs here as <photo>_q<QF>.jpg, for another tool to restore.",
)
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Metric of pyiqa, such as musiq or gmsd.")
@click.option("--published", is_flag=True, help="Append the paper's rows for LIVE1.")
@click.option("--record", metavar="NAME", help="Store the table in each model's card under this name of the photo set.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the individual scores to this file.",
)
def main(
    photos: Path | None,
    patterns: int | None,
    pages: int | None,
    judging: Path | None,
    models: tuple[str, ...],
    textures: tuple[float, ...],
    qfs: tuple[int, ...],
    sampling: str,
    constrain: bool,
    every: int,
    crop: int | None,
    resave: int | None,
    shift: int,
    networks: Path | None,
    outside: tuple[Path, ...],
    written: tuple[Path, ...],
    write_jpegs: Path | None,
    metrics: tuple[str, ...],
    published: bool,
    record: str | None,
    json_file: Path | None,
) -> None:
    """Measure models on a folder of lossless photos, or on drawn pictures."""
    if sum(subject is not None for subject in (photos, patterns, pages, judging)) != 1:
        raise click.UsageError("pass --photos DIR, --patterns N, --documents N or --judging DIR")
    if judging is not None:
        from training.judging import measure_judging, tables

        found = measure_judging(judging, models[0], every)
        click.echo(tables(found))
        if json_file:
            rows = [{**asdict(f), "case": (f.case.kind, f.case.history, f.case.qf, f.case.encoder)} for f in found]
            json_file.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        return
    if photos:
        subjects = lossless_photos(photos, every, crop)
    else:
        subjects = held_out_patterns(patterns) if patterns else held_out_documents(pages or 0)
    contestants = Contestants(
        tuple(Restorer.load(model) for model in models if model != "none"),
        (None, *textures),
        tuple(Outside(file) for file in outside),
        written,
    )
    own = {metric.title: metric.measure for metric in METRICS if metric.measure not in (psnr, ssim)}
    others = own | pyiqa_metrics(metrics)
    if write_jpegs is not None:
        write_jpegs.mkdir(parents=True, exist_ok=True)
    perceptual = Perceptual(networks) if networks else None
    again = Resave(resave, shift) if resave else None
    scores = [
        score
        for subject in subjects
        for qf in qfs
        for score in measure(
            subject,
            qf,
            sampling,
            contestants,
            constrain=constrain,
            perceptual=perceptual,
            metrics=others,
            resave=again,
            write_jpegs=write_jpegs,
        )
    ]
    click.echo(table(scores, published=published))
    if record is not None:
        photo = "each photo" if every == 1 else f"every {every}th photo"
        part = photo if crop is None else f"the middle {crop} x {crop} pixels of {photo}"
        bound = "with the constraint" if constrain else "without the constraint"
        for model in (name for name in models if name != "none"):
            scorecard.record(scores, find(model), record, f"{part}, Pillow {sampling}, RGB, in dB, {bound}")
    if json_file:
        json_file.write_text(json.dumps([asdict(score) for score in scores], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
