"""Quickly restores a part of a picture, again and again while the user moves a slider."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from codiff_batch.engine.photo import Decoded, judged
from codiff_batch.engine.region import Region
from codiff_batch.engine.settling import Restored, settled
from codiff_batch.jpeg import blocks_of
from codiff_batch.settings import Settings

if TYPE_CHECKING:
    from codiff_batch.engine import Restorer
    from codiff_batch.engine.stream import Progress

MARGIN = 48
"""Pixels around a part that the network sees beside it: three quarters of what the tiles of most models share."""
PICTURES = 2
LEVELS = 8
"""How many pictures are remembered, and how many restored parts of each."""

T = TypeVar("T")


class Memory:
    """What was computed for the last few pictures, by name."""

    def __init__(self) -> None:
        self._pictures: dict[Hashable, dict[Hashable, Any]] = {}

    def recall(self, about: Hashable, name: Hashable, make: Callable[[], T]) -> T:
        """A value about a picture, made if it is not there."""
        values = _fresh(self._pictures, about, dict, PICTURES)
        room = LEVELS + len([key for key in values if isinstance(key, str)])
        value: T = _fresh(values, name, make, room)
        return value


def _fresh(values: dict[Hashable, Any], key: Hashable, make: Callable[[], Any], room: int) -> Any:
    """A value, which becomes the most recent; the oldest ones are dropped."""
    values[key] = values.pop(key) if key in values else make()
    while len(values) > room:
        del values[next(iter(values))]
    return values[key]


def preview(
    memory: Memory,
    about: Hashable,
    decoded: Decoded,
    place: tuple[slice, slice],
    restorer: Restorer,
    settings: Settings,
    progress: Progress,
) -> Restored:
    """Restore a part of a picture by itself, as :func:`~codiff_batch.engine.photo.restore` does within the whole.

    The network runs once for a part; other strengths are blends of its result.

    Args:
        memory: of earlier calls.
        about: identifies the picture; calls with the same have the same ``decoded``.
        decoded: the whole picture.
        place: rows and columns.
        restorer: the model.
        settings: how to restore.
        progress: called between tiles; an exception from it ends the work.

    Returns:
        The restored part; its levels are those of the place.
    """
    region = Region.of(place, decoded.pixels.shape[:2], replace(restorer.card, overlap=MARGIN))
    by = f"{restorer.name}, {restorer.precision}, {settings.qf}"
    embedding = memory.recall(about, f"embedding by {by}", lambda: restorer.embed_crops([decoded.crops(settings)])[0])
    blocks = None
    if (photo := decoded.photo) is not None:
        blocks = memory.recall(about, "blocks", lambda: blocks_of(photo, decoded.pixels))
    part = decoded.part(region.window, blocks)
    seen = judged(part, embedding, settings, None)
    fully = replace(settings, strength=1.0)
    full = memory.recall(
        about,
        ("levels", by, str(region.window), settings.texture),
        lambda: np.asarray(restorer.levels_of(seen.request(fully, progress=progress))),
    )
    strength = np.float32(settings.strength)
    restored = settled(seen, full * strength + part.pixels * (1 - strength), settings)
    return replace(restored, levels=np.asarray(restored.levels)[region.inner])
