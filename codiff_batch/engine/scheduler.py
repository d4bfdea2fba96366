"""Decides which tiles the device works on next, how many at a time, and what to do when its memory runs out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from codiff_batch.engine.backend import Backend, UnderWay
from codiff_batch.engine.crops import textured_crops
from codiff_batch.engine.pool import Batch, PictureUnderWay, TilePool, bucket
from codiff_batch.engine.stream import Embedding, Pixels, Request, Result
from codiff_batch.engine.tiling import Geometry
from codiff_batch.errors import PhotoError, RestoreFailed
from codiff_batch.models.card import ModelCard

log = logging.getLogger(__name__)


class Scheduler:
    """Restores pictures on a backend, batch by batch.

    What it learns about memory applies to all later pictures.

    Args:
        most: tiles in the largest batch.
    """

    def __init__(
        self,
        backend: Backend[Any],
        card: ModelCard,
        geometry: Geometry,
        most: int,
    ) -> None:
        self._backend, self._card = backend, card
        self.geometry, self.most = geometry, most

    def embed(self, pixels: Pixels) -> Embedding:
        """Look at a picture with CaVE.

        Raises:
            RestoreFailed: the device does not have enough memory even for this.
        """
        return self.embed_crops([textured_crops(pixels)])[0]

    @property
    def can_glance(self) -> bool:
        """Return True if a glance is quicker than a look."""
        return self._backend.can_glance

    def embed_crops(self, pictures: Sequence[Sequence[Pixels]], *, glance: bool = False) -> list[Embedding]:
        """Look at several pictures in one batch, by their crops; raises as :meth:`embed` does."""
        embeddings: dict[int, Embedding] = {}
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, crops in enumerate(pictures):
            by_shape.setdefault(crops[0].shape[:2], []).append(index)
        for indices in by_shape.values():
            seen = self._look([crop for index in indices for crop in pictures[index]], glance=glance)
            for index in indices:
                own, seen = seen[: len(pictures[index])], seen[len(pictures[index]) :]
                qfs = [qf for _, qf in own]
                embeddings[index] = Embedding([tokens for tokens, _ in own], float(np.mean(qfs)), float(np.std(qfs)))
        return [embeddings[index] for index in range(len(pictures))]

    def _look(self, crops: Sequence[Pixels], *, glance: bool) -> list[tuple[Any, float]]:
        """Tokens and quality factor of each of several crops of one size; fewer at a time if memory is short."""
        if seen := self._backend.look(crops, glance=glance):
            return seen
        if len(crops) == 1:
            side = crops[0].shape[1]
            raise RestoreFailed(f"out of memory on {self._backend.name}, even for one crop of {side} pixels")
        halves = crops[: len(crops) // 2], crops[len(crops) // 2 :]
        return [one for half in halves for one in self._look(half, glance=glance)]

    def run(self, requests: Iterable[Request | None]) -> Iterator[Result]:
        """Restore pictures and yield them as they are finished; see :meth:`Restorer.stream`."""
        pool = TilePool(self.geometry)
        under_way: deque[tuple[Batch, UnderWay]] = deque()
        for request in requests:
            if request is not None:
                yield from self._admit(request, pool)
                # Work in progress continues while the next picture is drawn.
                yield from self._start(pool, under_way, only_full=True)
            else:
                yield from self._drain(pool, under_way)
        yield from self._drain(pool, under_way)

    def _drain(self, pool: TilePool, under_way: deque[tuple[Batch, UnderWay]]) -> Iterator[Result]:
        """Work until nothing is waiting or in progress."""
        while pool.groups or under_way:
            yield from self._start(pool, under_way, only_full=False)
            if under_way:
                yield from self._land(pool, under_way)

    def _admit(self, request: Request, pool: TilePool) -> Iterator[Result]:
        """Queue a picture's tiles; yield at once if there is nothing to do."""
        try:
            embedding = request.embedding or self.embed(request.pixels)
        except RestoreFailed as error:
            yield Result(request, error=error)
            return
        strength = request.settings.strength * self._fade(embedding.qf)
        if strength == 0:
            yield Result(request, request.pixels.astype(np.float32))
            return
        self._queue(PictureUnderWay(request, embedding, strength), pool)

    def _queue(self, picture: PictureUnderWay, pool: TilePool) -> None:
        """Cut a picture, bring it to the device, and put its tiles into the pool."""
        tiles = self.geometry.tiles(*picture.request.pixels.shape[:2])
        size = self.geometry.padded_picture(tiles)
        on_device = self._backend.open(picture.request, picture.embedding, size, wide=picture.wide)
        picture.begin(on_device, tiles, bucket(len(tiles), self.most))
        pool.add(picture)

    def _fade(self, qf: float) -> float:
        """Share of the restoration to keep for a picture of this estimated quality, 0..1; see the card's ``fade``."""
        start, end = self._card.fade
        return float(np.interp(qf, (start, end), (1, 0))) if end > start else 1.0

    def _start(self, pool: TilePool, under_way: deque[tuple[Batch, UnderWay]], *, only_full: bool) -> Iterator[Result]:
        """Start batches as long as there are some, waiting for the oldest if many are in progress."""
        while batch := pool.next(only_full=only_full):
            try:
                tiles = [(waiting.picture.on_device, waiting.tile) for waiting in batch.tiles]
                step = self._backend.start(tiles, batch.shape, len(under_way) + pool.steps)
                if step is not None:
                    self._finish_pictures(batch)
            except Exception as error:
                yield from self._give_up(pool, batch, error)
                continue
            if step is not None:
                under_way.append((batch, step))
            else:
                yield from self._try_with_less(pool, under_way, batch)
            while len(under_way) > self._backend.ahead:
                yield from self._land(pool, under_way)

    def _finish_pictures(self, batch: Batch) -> None:
        """Start fetching the pictures whose last tiles have just been started, without waiting for them."""
        for waiting in batch.tiles:
            picture = waiting.picture
            picture.started += 1
            if picture.started == len(picture.tiles):
                picture.landing = self._backend.finish(picture.on_device, picture.strength)

    def _land(self, pool: TilePool, under_way: deque[tuple[Batch, UnderWay]]) -> Iterator[Result]:
        """Wait for the oldest batch, and yield the pictures that it finished."""
        batch, step = under_way.popleft()
        try:
            done = step.wait()
        except Exception as error:
            yield from self._give_up(pool, batch, error)
            return
        if not done:
            yield from self._try_with_less(pool, under_way, batch)
            return
        for waiting in batch.tiles:
            waiting.picture.done += 1
        for picture in batch.pictures:
            if picture.given_up:
                continue
            try:
                if picture.request.progress is not None:
                    picture.request.progress(picture.done, len(picture.tiles))
            except PhotoError as error:
                pool.remove(picture)
                yield Result(picture.request, error=error)
                continue
            if picture.done == len(picture.tiles):
                yield from self._fetch(picture, pool)

    def _fetch(self, picture: PictureUnderWay, pool: TilePool) -> Iterator[Result]:
        """Yield a finished picture; restart it in a wider float format if it overflowed."""
        assert picture.landing is not None
        levels = picture.landing.levels()
        if levels is not None:
            yield Result(picture.request, levels)
        elif self._backend.can_widen and not picture.wide:
            picture.wide = True
            self._queue(picture, pool)
        else:
            message = f"model {self._card.name!r} gave values that are not finite; the picture was not restored"
            yield Result(picture.request, error=RestoreFailed(message))

    def _give_up(self, pool: TilePool, batch: Batch, error: Exception) -> Iterator[Result]:
        """Fail the pictures of a batch; the others in the pool go on."""
        for picture in batch.pictures:
            if not picture.given_up:
                pool.remove(picture)
                yield Result(picture.request, error=error)

    def _try_with_less(
        self, pool: TilePool, under_way: deque[tuple[Batch, UnderWay]], batch: Batch
    ) -> Iterator[Result]:
        """Restart the pictures in progress with smaller batches, or tiles, after memory ran out for one."""
        before = self.most, self.geometry
        # Nothing of a picture may still be in progress when it starts again. If memory runs out for more of that, less
        # is used already.
        while under_way:
            yield from self._land(pool, under_way)
        if (self.most, self.geometry) == before and not self._use_less_memory(batch):
            size = f"{self.geometry.tile}x{self.geometry.tile}"
            message = f"out of memory on {self._backend.name}, even for a single tile of {size} pixels"
            yield from self._give_up(pool, batch, RestoreFailed(message))
            return
        others = [picture for picture in pool.clear() if picture not in batch.pictures]
        pool.geometry = self.geometry
        for picture in [*batch.pictures, *others]:
            if not picture.given_up:
                self._queue(picture, pool)

    def _use_less_memory(self, batch: Batch) -> bool:
        """Halve the batch, then the tile; return True if that was possible."""
        if batch.shape[0] > 1:
            self.most = batch.shape[0] // 2
            log.warning("out of memory on %s: continuing with %d tiles at a time", self._backend.name, self.most)
        elif smaller := self.geometry.smaller():
            self.geometry = smaller
            log.warning("out of memory on %s: continuing with tiles of %d pixels", self._backend.name, smaller.tile)
        else:
            return False
        return True
