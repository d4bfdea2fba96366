"""Studies some photos, and restores parts of a few."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codiff_batch.batch.options import BatchOptions
from codiff_batch.errors import PhotoError
from codiff_batch.files.text import printable
from codiff_batch.jpeg import JpegPhoto, blocks_of
from codiff_batch.jpeg.metadata import icc_bytes
from codiff_batch.pages.thumbnails import SIDE, reduced
from codiff_batch.preview.box import SURROUNDINGS, Box, telling_box
from codiff_batch.preview.choose import Chosen, Studied
from codiff_batch.preview.judging import Photo, open_again
from codiff_batch.preview.settings import Setting
from codiff_batch.rasters.raster import RasterHeader
from codiff_batch.rasters.source import Source
from codiff_batch.settings import Settings

if TYPE_CHECKING:
    from codiff_batch.engine import Embedding, Restorer
    from codiff_batch.engine.photo import Decoded

log = logging.getLogger(__name__)

READERS = 4
DESCRIBED = 16
"""Side of the small picture that describes a photo's content."""


@dataclass(frozen=True, eq=False)
class Version:
    """A sample restored under one setting."""

    pixels: NDArray[np.uint8]
    """Of the shown part, as stored."""
    seconds: float
    """What the network and the constraint took for the part."""


@dataclass(eq=False)
class Sample:
    """A chosen photo and the part of it that is shown."""

    chosen: Chosen
    photo: Source
    whole: Image.Image
    """The photo made small, as stored."""
    shown: Box
    """The part of it that is shown, as stored."""
    part: Decoded
    """The shown part with its surroundings."""
    inner: Box
    """The shown part within it."""
    crops: Sequence[NDArray[np.uint8]]
    """What CaVE looks at."""
    decoding_seconds: float
    looking_back_seconds: float
    versions: dict[Setting, Version] = field(default_factory=dict)

    @property
    def before(self) -> NDArray[np.uint8]:
        """The shown part as it is in the file."""
        return self.part.pixels[self.inner.place]

    @property
    def icc(self) -> bytes | None:
        """The photo's colour profile, if it fits the colours that the page shows."""
        return None if self.photo.header.colour == "gray" else icc_bytes(self.photo.structure)


@dataclass(frozen=True)
class Pace:
    """How fast one setting just was on this machine."""

    per_megapixel: float
    """Seconds: decoding, the network, the constraint."""
    per_photo: float
    """Seconds: CaVE's estimate, and the search for earlier compressions."""


def study(
    photos: Sequence[Photo], numbers: Sequence[int], options: BatchOptions, step: Callable[[], object]
) -> list[Studied]:
    """Study some photos; those that cannot be decoded are left out. ``step`` is called after each."""

    def look(number: int) -> Studied | None:
        try:
            photo = open_again(photos[number].outcome.source, options)
            return Studied(number, _origin(photo), _describe(_small(photo, DESCRIBED)))
        except Exception as error:  # A photo that is odd in any way represents nothing.
            log.debug("%s is not studied: %s", printable(str(photos[number].outcome.source)), error)
            return None

    with ThreadPoolExecutor(READERS) as readers:
        studied = []
        for photo in readers.map(look, numbers):
            step()
            if photo is not None:
                studied.append(photo)
        return studied


def take_samples(chosen: Sequence[Chosen], photos: Sequence[Photo], options: BatchOptions) -> list[Sample]:
    """Cut the samples out; a photo that cannot be decoded is reported, and the others are shown."""
    samples = []
    for one in chosen:
        source = photos[one.number].outcome.source
        try:
            samples.append(_take(one, source, options))
        except PhotoError as error:
            log.warning("not shown: %s: %s", printable(str(source)), error)
    return samples


def _take(chosen: Chosen, source: Path, options: BatchOptions) -> Sample:
    """Decode a chosen photo and cut out the part to show."""
    from codiff_batch.engine.photo import Decoded

    started = time.perf_counter()
    photo = open_again(source, options)
    pixels = photo.pixels()
    decoding = time.perf_counter() - started
    shown = telling_box(pixels)
    decoded = Decoded.of(photo, pixels)
    above, left = decoded.margin  # less than the surroundings
    around = shown.grown(SURROUNDINGS, *decoded.pixels.shape[:2])
    started = time.perf_counter()
    traits = decoded.traits
    looking_back = time.perf_counter() - started
    # So that the whole photo's pixels need not be kept.
    blocks = blocks_of(photo, pixels) if isinstance(photo, JpegPhoto) else None
    part = replace(decoded.part(around.place, blocks), whole=traits)
    inner = replace(shown, top=shown.top + above, left=shown.left + left).within(around)
    crops = decoded.crops(options.settings)
    return Sample(chosen, photo, _small(photo, SIDE), shown, part, inner, crops, decoding, looking_back)


def restore_samples(
    samples: Sequence[Sample], settings: Sequence[Setting], options: BatchOptions, step: Callable[[], object]
) -> dict[Setting, Pace]:
    """Restore every sample under every setting, a model at a time, and measure.

    Versions that fail are left out.

    Args:
        samples: get their versions.
        settings: what to compare.
        options: device, precision and models' folder are used.
        step: called after each version.

    Raises:
        ModelError, DeviceUnavailable: a model cannot be used.
    """
    from codiff_batch.engine import Restorer

    paces = {}
    for model in dict.fromkeys(setting.model for setting in settings):
        restorer = Restorer.load(model, options.devices[0], models_dir=options.models_dir, precision=options.precision)
        embeddings, looking = _look(restorer, samples)
        for setting in (setting for setting in settings if setting.model == model):
            for sample in samples:
                embedding = embeddings.get(sample.chosen.number)
                if embedding is not None:
                    _restore(sample, setting, restorer, embedding, options.settings)
                step()
            paces[setting] = _pace(samples, setting, restorer, looking)
    return paces


def _look(restorer: Restorer, samples: Sequence[Sample]) -> tuple[dict[int, Embedding], float]:
    """CaVE's estimate for each sample, and the seconds for one."""
    seen, seconds = {}, []
    for sample in samples:
        started = time.perf_counter()
        try:
            (seen[sample.chosen.number],) = restorer.embed_crops([sample.crops])
        except PhotoError as error:
            log.warning("%s: %s", printable(str(sample.photo.path)), error)
        seconds.append(time.perf_counter() - started)
    return seen, statistics.median(seconds) if seconds else 0.0


def _restore(sample: Sample, setting: Setting, restorer: Restorer, embedding: Embedding, settings: Settings) -> None:
    from codiff_batch.engine.photo import restore

    started = time.perf_counter()
    asked = replace(settings, strength=setting.strength, texture=setting.texture)
    try:
        restored = restore(sample.part, restorer, asked, embedding=embedding).pixels
    except Exception as error:  # No exception of one photo may end the others, as in a batch.
        log.warning("%s under %s: %s", printable(str(sample.photo.path)), setting.words, printable(str(error)))
        return
    seconds = time.perf_counter() - started
    sample.versions[setting] = Version(restored[sample.inner.place].copy(), seconds)


def _pace(samples: Sequence[Sample], setting: Setting, restorer: Restorer, looking: float) -> Pace:
    done = [sample for sample in samples if setting in sample.versions]
    if not done:
        return Pace(0.0, 0.0)
    # Medians, because the first picture of each size is slow: the libraries prepare for it.
    sizes = [sample.part.pixels.shape[0] * sample.part.pixels.shape[1] / 1e6 for sample in done]
    network = statistics.median(s.versions[setting].seconds / size for s, size in zip(done, sizes, strict=True))
    wholes = [sample.photo.header for sample in done]
    tile, stride = restorer.card.tile, restorer.card.tile - restorer.card.overlap
    # The overlap of tiles in a large photo is restored twice.
    shared = statistics.mean((tile / stride) ** 2 if max(h.width, h.height) > tile else 1.0 for h in wholes)
    decoding = sum(s.decoding_seconds for s in done) / sum(h.width * h.height / 1e6 for h in wholes)
    return Pace(network * shared + decoding, looking + statistics.median(s.looking_back_seconds for s in done))


def _small(photo: Source, side: int) -> Image.Image:
    """A photo at ``side`` pixels or somewhat more."""
    if isinstance(photo, JpegPhoto):
        return reduced(photo, side)
    picture = Image.fromarray(photo.pixels())
    return picture.reduce(max(1, max(picture.size) // side))


def _origin(photo: Source) -> str:
    """The camera, or what distinguishes one encoder from another."""
    header = photo.header
    if isinstance(header, RasterHeader):
        return photo.metadata().camera or header.process
    tables = "the IJG's tables" if not header.qf_misfit else f"tables {hash(tuple(t.tobytes() for t in header.tables))}"
    return photo.metadata().camera or f"{header.process}, {header.sampling}, {tables}"


def _describe(picture: Image.Image) -> NDArray[np.float32]:
    """Light, colours and detail of a small picture: (6,), each about 0..1."""
    values = np.asarray(picture.convert("YCbCr").resize((DESCRIBED, DESCRIBED)), np.float32) / 255
    light, blue, red = (values[..., channel] for channel in range(3))
    detail = np.abs(np.diff(light, axis=0)).mean() + np.abs(np.diff(light, axis=1)).mean()
    across = np.abs(light[:, : DESCRIBED // 2].mean() - light[:, DESCRIBED // 2 :].mean())
    down = light[: DESCRIBED // 2].mean() - light[DESCRIBED // 2 :].mean()
    return np.array(
        [light.mean(), light.std() * 2, blue.mean() * 2, red.mean() * 2, detail * 3, across + abs(down)], np.float32
    )
