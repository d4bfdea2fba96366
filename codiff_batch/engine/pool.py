"""Pictures in progress: their tiles wait in one pool, so that tiles of many pictures share batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from codiff_batch.engine.backend import Landing, Picture
from codiff_batch.engine.stream import Embedding, Request
from codiff_batch.engine.tiling import Geometry, Tile

LARGEST_FILL = 1 / 8
"""Share of a picture's tiles that may be computed in vain so that its batches are larger."""


def bucket(tiles: int, most: int) -> int:
    """Choose how many tiles go together for a picture: a power of two up to ``most``.

    It is the largest that wastes at most an eighth on filling the last batch. Only the picture's own tiles decide it,
    never other pictures: a GPU may round batches of another size differently, and a picture must give the same bytes
    alone and among others.
    """
    best = size = 1
    while (size := 2 * size) <= most:
        if -(-tiles // size) * size <= tiles * (1 + LARGEST_FILL):
            best = size
    return best


@dataclass(eq=False)
class PictureUnderWay:
    """A picture being restored, and how far its tiles are."""

    request: Request
    embedding: Embedding
    strength: float
    """The asked-for strength times the card's fade: the share of the restoration in the result, above 0."""
    wide: bool = False
    """Whether it is restored in a wider float format, because the usual one overflowed."""
    given_up: bool = False
    on_device: Picture = field(init=False)
    tiles: Sequence[Tile] = field(init=False)
    batch: int = field(init=False)
    started: int = field(init=False)
    done: int = field(init=False)
    landing: Landing | None = field(init=False)

    def begin(self, on_device: Picture, tiles: Sequence[Tile], batch: int) -> None:
        """Start with these tiles, forgetting earlier ones."""
        self.on_device, self.tiles, self.batch = on_device, tiles, batch
        self.started, self.done, self.landing = 0, 0, None


class Waiting(NamedTuple):
    """A tile and its picture."""

    picture: PictureUnderWay
    tile: Tile


class Batch(NamedTuple):
    """Tiles that go together."""

    tiles: Sequence[Waiting]
    shape: tuple[int, int, int]
    """(tiles, height, width) that the networks get; there may be fewer tiles than that."""

    @property
    def pictures(self) -> list[PictureUnderWay]:
        """The pictures that the tiles belong to."""
        return list({id(waiting.picture): waiting.picture for waiting in self.tiles}.values())


@dataclass
class TilePool:
    """Tiles that wait for the network, in groups that can share a batch."""

    geometry: Geometry
    groups: dict[tuple[object, ...], deque[Waiting]] = field(default_factory=dict)

    def add(self, picture: PictureUnderWay) -> None:
        """Queue all tiles of a picture."""
        for tile in picture.tiles:
            shape = (picture.batch, *self.geometry.padded_tile(tile))
            self.groups.setdefault((shape, *picture.on_device.kind), deque()).append(Waiting(picture, tile))

    @property
    def steps(self) -> int:
        """How many batches the waiting tiles make."""
        return sum(-(-len(group) // kind[0][0]) for kind, group in self.groups.items())  # type: ignore[index]

    def next(self, *, only_full: bool) -> Batch | None:
        """Take tiles that can go together; None if there are none, or not enough for a full batch."""
        for kind, group in self.groups.items():
            shape: Any = kind[0]
            if len(group) >= shape[0] or not only_full:
                tiles = [group.popleft() for _ in range(min(shape[0], len(group)))]
                if not group:
                    del self.groups[kind]
                return Batch(tiles, shape)
        return None

    def remove(self, picture: PictureUnderWay) -> None:
        """Forget the tiles of a picture that failed."""
        picture.given_up = True
        remaining = {
            kind: deque(waiting for waiting in group if waiting.picture is not picture)
            for kind, group in self.groups.items()
        }
        self.groups = {kind: group for kind, group in remaining.items() if group}

    def clear(self) -> list[PictureUnderWay]:
        """Take out all pictures that have tiles here."""
        pictures = {id(waiting.picture): waiting.picture for group in self.groups.values() for waiting in group}
        self.groups = {}
        return list(pictures.values())
