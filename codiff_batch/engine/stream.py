"""Pictures under way: their tiles wait in one pool, so that tiles of many pictures share a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codiff_batch.engine.tiling import Tile, plan_tiles

if TYPE_CHECKING:
    from torch import Tensor

Pixels: TypeAlias = NDArray[np.uint8]
Levels: TypeAlias = NDArray[np.float32]
Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Embedding:
    """What CaVE sees in a picture."""

    tokens: Tensor
    """(1, K, D), on the model's device: the compression embedding."""
    qf: float
    """Estimated quality factor, 0..100."""


@dataclass(frozen=True, eq=False)
class Request:
    """One picture to restore; see :meth:`~codiff_batch.engine.restorer.Restorer.restore` for the fields."""

    pixels: Pixels
    embedding: Embedding | None = None
    """From :meth:`~codiff_batch.engine.restorer.Restorer.embed`, if the caller has it already."""
    strength: float = 1.0
    texture: float = 1.0
    tables: Sequence[NDArray[np.uint16]] | None = None
    progress: Progress | None = None
    key: Any = None
    """Comes back with the result."""


@dataclass(frozen=True, eq=False)
class Result:
    """What became of a request: levels, or the error that this one picture met."""

    request: Request
    levels: Levels | None = None
    """float32 in [0, 255], of the picture's shape."""
    error: Exception | None = None


@dataclass(frozen=True)
class Geometry:
    """How pictures are cut."""

    tile: int
    overlap: int
    multiple: int
    one_size: bool = False
    """Whether all that the networks get is of the tile's size, small pictures included: some runtimes prepare
    themselves for each size anew."""

    def smaller(self) -> Geometry | None:
        """Tiles of half the side, or None where that would be too little for the networks."""
        half = self.tile // 2
        return self.of_side(half) if half >= 2 * self.multiple else None

    def of_side(self, side: int) -> Geometry:
        """Tiles of about another side; at most half of a tile is overlap."""
        tile = max(side // self.multiple, 2) * self.multiple
        return replace(self, tile=tile, overlap=min(self.overlap, tile // 2 // self.multiple * self.multiple))

    def padded(self, length: int) -> int:
        """Side that the networks get for a tile's side of this length."""
        return self.tile if self.one_size else -(-length // self.multiple) * self.multiple

    def tiles(self, height: int, width: int) -> list[Tile]:
        """Cut a picture."""
        cut = plan_tiles(height, width, self.tile, self.overlap, self.multiple, one_size=self.one_size)
        return list(cut)


class PictureUnderWay:
    """One picture's float canvas and how many of its tiles are still to come."""

    def __init__(
        self, request: Request, tokens: Tensor, condition: dict[str, Tensor], strength: float, geometry: Geometry
    ) -> None:
        self.request, self.tokens, self.condition, self.strength = request, tokens, condition, strength
        self.given_up = False
        self.plan(geometry)

    def plan(self, geometry: Geometry) -> None:
        """Cut the picture into tiles, forgetting what was done with other ones."""
        pixels = self.request.pixels
        height, width = pixels.shape[:2]
        self.tiles = geometry.tiles(height, width)
        self.blended: Levels = np.zeros(pixels.shape, np.float32)
        self.done = 0

    def take(self, tile: Tile, restored: Levels) -> bool:
        """Add a restored tile with its blending weights; tell whether it was the last."""
        weights = tile.weights if restored.ndim == 3 else tile.weights[..., 0]
        self.blended[tile.place] += restored * weights
        self.done += 1
        return self.done == len(self.tiles)


class Waiting(NamedTuple):
    """A tile and the picture it is of."""

    picture: PictureUnderWay
    tile: Tile

    @property
    def pixels(self) -> Pixels:
        """The tile's pixels, (h, w, 3) or (h, w)."""
        return self.picture.request.pixels[self.tile.place]


@dataclass
class TilePool:
    """Tiles that wait for the network, apart by what cannot share a batch: padded size and number of tokens."""

    geometry: Geometry
    groups: dict[tuple[object, ...], deque[Waiting]] = field(default_factory=dict)

    def add(self, picture: PictureUnderWay) -> None:
        """Queue all tiles of a picture."""
        for tile in picture.tiles:
            height, width = (self.geometry.padded(len(span.weights)) for span in (tile.rows, tile.columns))
            kind = (height, width, picture.tokens.shape[1], *sorted(picture.condition))
            self.groups.setdefault(kind, deque()).append(Waiting(picture, tile))

    def next(self, count: int, *, only_full: bool) -> list[Waiting]:
        """Up to ``count`` tiles that can go together; empty if there are none, or not enough for a full batch."""
        for kind, group in self.groups.items():
            if len(group) >= count or not only_full:
                batch = [group.popleft() for _ in range(min(count, len(group)))]
                if not group:
                    del self.groups[kind]
                return batch
        return []

    def remove(self, picture: PictureUnderWay) -> None:
        """Forget the tiles of a picture that failed."""
        picture.given_up = True
        remaining = {
            kind: deque(waiting for waiting in group if waiting.picture is not picture)
            for kind, group in self.groups.items()
        }
        self.groups = {kind: group for kind, group in remaining.items() if group}

    def cut_again(self, geometry: Geometry, batch: Sequence[Waiting]) -> None:
        """Start all pictures under way anew with other tiles, those of a batch that failed included."""
        waiting = [*batch, *(waiting for group in self.groups.values() for waiting in group)]
        pictures = {id(w.picture): w.picture for w in waiting}
        self.geometry, self.groups = geometry, {}
        for picture in pictures.values():
            if not picture.given_up:
                picture.plan(geometry)
                self.add(picture)
