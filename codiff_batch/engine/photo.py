"""One picture's way through the engine, from top to bottom.

A photo is *opened* (:class:`~codiff_batch.jpeg.JpegPhoto`: its bytes and its header), *decoded* to pixels, *seen* by
CaVE, *judged*, *restored* by the networks to levels, and *settled* as the final picture. Each of these is a value made
from the one before. Callers that take all steps at once call :func:`restore`; a batch takes them in threads of its own.

Only this module calls the judge, and only :mod:`~codiff_batch.engine.settling` has pictures projected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from codiff_batch.engine.by_hand import compressed_at, tables_of
from codiff_batch.engine.crops import textured_crops
from codiff_batch.engine.judge import Action, Ground, Verdict, judge, judge_by_header, was_saved_again
from codiff_batch.engine.once import once
from codiff_batch.engine.region import Region
from codiff_batch.engine.settling import Restored, is_neutral, settled
from codiff_batch.engine.stream import Embedding, Pixels, Progress, Request, Tables
from codiff_batch.jpeg import JpegPhoto, cut
from codiff_batch.jpeg.cut import Blocks
from codiff_batch.jpeg.history import History, look_back
from codiff_batch.jpeg.pillow_pixels import PillowPixels
from codiff_batch.rasters.raster import Raster
from codiff_batch.rasters.source import Source
from codiff_batch.settings import Judging, Settings

if TYPE_CHECKING:
    from codiff_batch.engine.restorer import Restorer

GLANCE_ERROR = 1.0
"""By how much a glance's quality factor may be too high: by 0.13 at most among 920 pictures."""


@dataclass(frozen=True)
class Traits:
    """What only the whole picture can tell, and what decides about its parts too."""

    history: History
    is_neutral: bool


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pixels, and what is known about where they come from."""

    stored: Pixels | PillowPixels
    """uint8 (H, W, 3) RGB or (H, W) gray, as stored in the file: not rotated. An array, or the decoder's memory, of
    which parts are copied; :attr:`pixels` is the array."""
    photo: JpegPhoto | None = None
    """The JPEG that they were decoded from; None if there is none, or if they were changed since."""
    tables: Tables | None = None
    """Quantization tables in natural order, luma first, if they are known."""
    margin: tuple[int, int] = (0, 0)
    """Rows above and columns on the left that were added, so that a compression's grid starts at the corner."""
    whole: Decoded | Traits | None = None
    """For a part of a picture: the whole picture, or its traits."""

    @classmethod
    def of(cls, photo: Source, pixels: Pixels | None = None) -> Decoded:
        """Decode a photo, unless the caller has its pixels already.

        A picture that is not a JPEG has no cells to be kept in, and may have been cropped since it was one.

        Raises:
            PhotoError: it cannot be decoded.
        """
        if isinstance(photo, Raster):
            return cls.on_grid(photo.pixels() if pixels is None else pixels)
        return cls(photo.decode() if pixels is None else pixels, photo, photo.header.tables)

    @classmethod
    def on_grid(cls, pixels: Pixels) -> Decoded:
        """Pad a picture so that it starts on the grid of the compression found in it: networks look at 8x8 blocks."""
        picture = cls(pixels)
        found = picture.history
        if found.earlier is None or not any(found.earlier.shift):
            return picture
        above, left = (-shift % 8 for shift in found.earlier.shift)
        padding = ((above, 0), (left, 0), (0, 0))[: pixels.ndim]
        return cls(np.pad(pixels, padding, mode="edge"), margin=(above, left), whole=picture.traits)

    @property
    def pixels(self) -> Pixels:
        """All of the picture as an array."""
        return np.asarray(self.stored)

    @property
    def header_qf(self) -> float | None:
        """Quality factor by its file's tables; None where there is no file."""
        return None if self.photo is None else self.photo.header.qf

    @property
    def inside(self) -> tuple[slice, slice]:
        """The picture without its margin."""
        above, left = self.margin
        return slice(above, None), slice(left, None)

    @once
    def history(self) -> History:
        """What the pixels tell of earlier compressions; takes a tenth of a second, whatever the picture's size."""
        if self.whole is not None:
            return self.whole.history
        return look_back(self._textured, self.stored, self.tables)

    @once
    def _textured(self) -> list[Pixels]:
        return textured_crops(self.stored)

    @once
    def is_neutral(self) -> bool:
        """Whether the picture is black and white in three channels."""
        return is_neutral(self.stored) if self.whole is None else self.whole.is_neutral

    @property
    def traits(self) -> Traits:
        """What decides about its parts, without its pixels."""
        return Traits(self.history, self.is_neutral)

    def part(self, window: tuple[slice, slice], blocks: Blocks | None) -> Decoded:
        """A rectangle of the picture by itself, as a part of this.

        Args:
            window: rows and columns; they start on the grid of MCUs and end there or at the picture's edge.
            blocks: of the photo, as :func:`~codiff_batch.jpeg.blocks_of` gives them.
        """
        photo = None if self.photo is None else cut(self.photo, blocks, window)
        return Decoded(self.pixels[window].copy(), photo, self.tables, whole=self)

    def crops(self, settings: Settings) -> list[Pixels]:
        """What CaVE has to look at; for a quality given by hand, the crops compressed again at that quality."""
        crops = [crop.copy() for crop in self._textured]
        return crops if settings.qf is None else [compressed_at(crop, settings.qf) for crop in crops]


@dataclass(frozen=True, eq=False)
class Judged:
    """A decoded picture, what CaVE saw in it, and the decision."""

    decoded: Decoded
    embedding: Embedding
    verdict: Verdict

    def request(self, settings: Settings, *, region: Region | None = None, **rest: Any) -> Request:
        """The request to the networks: for the picture, or for a region of it with its surroundings.

        Args:
            settings: how to restore.
            region: None for all of it.
            rest: ``progress`` and ``key`` of the request.
        """
        pixels = self.decoded.pixels if region is None else np.ascontiguousarray(self.decoded.pixels[region.window])
        return Request(pixels, self.embedding, settings, self._tables(settings), **rest)

    def _tables(self, settings: Settings) -> Tables | None:
        """The tables of the compression that did the harm, if they are known: networks learned to trust them."""
        if settings.qf is not None:
            return tables_of(settings.qf)
        header_qf = self.decoded.header_qf
        if header_qf is not None and was_saved_again(header_qf, self.embedding.qf, self.decoded.history):
            return None
        return self.decoded.tables


def judged_unseen(header_qf: float | None, settings: Settings, judging: Judging | None) -> Verdict | None:
    """Return the verdict if it needs no pixels; None if CaVE has to look.

    Args:
        header_qf: quality factor by the file's tables; None where there is no file.
        settings: with a quality given by hand, a picture is restored in any case.
        judging: None to restore it in any case, because that was asked for.
    """
    if settings.qf is not None:
        return Verdict(Action.RESTORE, Ground.BY_HAND, f"quality {settings.qf:g} given by hand", header_qf, None)
    if judging is None:
        return Verdict(Action.RESTORE, Ground.ASKED, "asked for", header_qf, None)
    return None if header_qf is None else judge_by_header(header_qf, judging.min_qf)


def judged_by(
    header_qf: float | None,
    embedding: Embedding | None,
    history: Callable[[], History | None],
    settings: Settings,
    judging: Judging | None,
) -> Verdict:
    """Return the verdict once CaVE has looked, if it had to; other arguments as for :func:`judged_unseen`.

    Args:
        history: what the pixels tell of earlier compressions; asked for only where the header does not decide.

    Raises:
        ValueError: CaVE had to look, and did not.
    """
    estimated_qf = None if embedding is None else embedding.qf
    if verdict := judged_unseen(header_qf, settings, judging):
        return replace(verdict, estimated_qf=estimated_qf)
    spread = 0.0 if embedding is None else embedding.spread
    return judge(header_qf, estimated_qf, (judging or Judging()).min_qf, history(), spread=spread)


def look_closely_enough(
    pictures: Sequence[tuple[Decoded, Sequence[Pixels]]],
    restorer: Restorer,
    settings: Settings,
    judging: Judging | None,
) -> list[Embedding]:
    """Have CaVE look at several pictures; a glance is enough for those that are good already even if it errs.

    Args:
        pictures: each with its crops.
        restorer: the model.
        settings: as for :func:`judged`.
        judging: as for :func:`judged`.
    """
    seen: dict[int, Embedding] = {}

    def is_good(index: int, qf: float) -> bool:
        decoded = pictures[index][0]
        verdict = judged_by(decoded.header_qf, Embedding((), qf), lambda: decoded.history, settings, judging)
        return verdict.ground is Ground.GOOD

    def look(indices: Iterable[int], *, glance: bool) -> None:
        chosen = list(indices)
        if chosen:
            found = restorer.embed_crops([pictures[index][1] for index in chosen], glance=glance)
            seen.update(zip(chosen, found, strict=True))

    if restorer.can_glance:
        look((index for index in range(len(pictures)) if is_good(index, 100)), glance=True)
    enough = {index for index, glance in seen.items() if is_good(index, max(0, glance.qf - GLANCE_ERROR))}
    look((index for index in range(len(pictures)) if index not in enough), glance=False)
    return [seen[index] for index in range(len(pictures))]


def judged(decoded: Decoded, embedding: Embedding, settings: Settings, judging: Judging | None) -> Judged:
    """Judge a picture by what CaVE saw in its crops; other arguments as for :func:`judged_unseen`."""
    if settings.qf is not None:
        embedding = replace(embedding, qf=settings.qf)
    verdict = judged_by(decoded.header_qf, embedding, lambda: decoded.history, settings, judging)
    return Judged(decoded, embedding, verdict)


def restore(
    decoded: Decoded,
    restorer: Restorer,
    settings: Settings,
    *,
    region: Region | None = None,
    embedding: Embedding | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Restore a picture, or a region of it: all steps at once.

    Args:
        decoded: the picture.
        restorer: the model.
        settings: how to restore.
        region: what of it, with its surroundings; None for all.
        embedding: what CaVE sees in its crops, if the caller already has it.
        progress: called with (tiles done, tiles in total); an exception from it ends the work.

    Raises:
        PhotoError: the picture cannot be restored.
    """
    embedding = embedding or restorer.embed_crops([decoded.crops(settings)])[0]
    seen = judged(decoded, embedding, settings, None)
    levels = restorer.levels_of(seen.request(settings, region=region, progress=progress))
    return settled(seen, levels, settings, region)


def restore_photo(
    photo: JpegPhoto,
    restorer: Restorer,
    settings: Settings | None = None,
    *,
    pixels: Pixels | None = None,
    embedding: Embedding | None = None,
    progress: Progress | None = None,
    **changed: Any,
) -> Pixels:
    """Restore one JPEG photo.

    Args:
        photo: the source.
        restorer: the model.
        settings: how to restore; the defaults if not given.
        pixels: the photo's decoded pixels, if the caller already has them.
        embedding: what CaVE sees in these pixels, if the caller already has it.
        progress: called with (tiles done, tiles in total); an exception from it ends the work.
        changed: single settings by name, such as ``strength=0.5``.

    Returns:
        uint8 of the photo's shape, (H, W, 3) RGB or (H, W) gray, Orientation not applied.

    Raises:
        PhotoError: the photo cannot be decoded or restored.
        ValueError: a setting is out of range.
    """
    chosen = replace(settings or Settings(), **changed)
    return restore(Decoded.of(photo, pixels), restorer, chosen, embedding=embedding, progress=progress).pixels
