"""Photo sets larger than memory: shards of them take turns, and the next is decoded while one is drawn from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.photos import Pixels, load_photos

CROPS = 64
"""Crops for each photo of a shard before the next shard's turn: decoding a photo then costs next to nothing a crop."""


@dataclass(frozen=True)
class _Shard:
    """Photos by their place in the set, and the crops, counted from the start of training, that are drawn from them."""

    photos: tuple[int, ...]
    first: int
    end: int


class Shards:
    """Photos to draw from, by how many crops were drawn before.

    A set within the limit is a single shard, in its own order. A larger one is shuffled again for every epoch and cut
    into shards of at most half the limit, because two are in memory at a time. What is drawn depends on the seed, the
    limit and the set, and not on when a run was stopped and resumed.
    """

    def __init__(
        self, paths: Sequence[Path], limit: int, seed: Sequence[int] = (0,), always: Sequence[Pixels] = ()
    ) -> None:
        """Measure the photos; none is decoded yet.

        Args:
            paths: the set.
            limit: bytes of decoded photos in memory at a time.
            seed: of the shuffling.
            always: pictures that belong to every shard.

        Raises:
            ValueError: a photo alone is larger than a shard may be.
        """
        self._paths, self._seed, self._always = list(paths), tuple(seed), list(always)
        self._bytes = [_decoded_bytes(path) for path in paths]
        self._limit = limit if sum(self._bytes) <= limit else limit // 2
        if max(self._bytes, default=0) > self._limit:
            largest = self._paths[int(np.argmax(self._bytes))]
            raise ValueError(f"{largest} alone takes more memory than a shard may")
        self._here: tuple[_Shard, list[Pixels]] | None = None
        self._next: tuple[_Shard, Future[list[Pixels]]] | None = None
        self._loader = ThreadPoolExecutor(1)

    @classmethod
    def of(cls, photos: Sequence[Pixels]) -> Shards:
        """Photos that are in memory already."""
        return cls((), 0, always=photos)

    def at(self, crop: int) -> list[Pixels]:
        """Photos from which a crop is to be drawn; the very same list for as long as their turn lasts.

        Args:
            crop: how many were drawn before.
        """
        if self._here is None or not self._here[0].first <= crop < self._here[0].end:
            shard = self._shard(crop)
            ahead = self._next[1] if self._next is not None and self._next[0] == shard else None
            photos = self._load(shard) if ahead is None else ahead.result()
            self._here, self._next = (shard, photos), None
            if shard.end < sys.maxsize:
                following = self._shard(shard.end)
                self._next = following, self._loader.submit(self._load, following)
        return self._here[1]

    def _load(self, shard: _Shard) -> list[Pixels]:
        return load_photos([self._paths[number] for number in shard.photos]) + self._always

    def _shard(self, crop: int) -> _Shard:
        """The shard whose turn it is at a crop."""
        count = len(self._paths)
        if sum(self._bytes) <= self._limit:
            return _Shard(tuple(range(count)), 0, sys.maxsize)
        epoch, place = divmod(crop // CROPS, count)
        order = np.random.default_rng((*self._seed, epoch)).permutation(count)
        sizes = np.array(self._bytes)[order]
        first = end = 0
        while end <= place:
            first = end
            end += int(np.searchsorted(np.cumsum(sizes[first:]), self._limit, side="right"))
        photos = tuple(int(number) for number in order[first:end])
        return _Shard(photos, (epoch * count + first) * CROPS, (epoch * count + end) * CROPS)


def _decoded_bytes(path: Path) -> int:
    """Bytes that a photo takes once it is decoded, by its header."""
    with Image.open(path) as image:
        return 3 * image.width * image.height
