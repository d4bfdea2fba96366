"""A part of a picture restored in a moment, again and again while someone moves a slider."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from codiff_batch.jpeg import JpegPhoto
from codiff_batch.jpeg.coefficients import has_readable_coefficients

if TYPE_CHECKING:
    from codiff_batch.engine import Restorer
    from codiff_batch.engine.stream import Embedding, Levels, Progress

MARGIN = 48
"""Pixels around a part that the network sees beside it: three quarters of what the tiles of most models share."""
PICTURES = 2
LEVELS = 8
"""How many pictures are remembered, and how many restored parts of each."""

T = TypeVar("T")


class Memory:
    """What was computed of the last few pictures, by name."""

    def __init__(self) -> None:
        self._pictures: dict[Hashable, dict[Hashable, Any]] = {}

    def recall(self, about: Hashable, name: Hashable, make: Callable[[], T]) -> T:
        """A value about a picture, made if it is not there."""
        values = _fresh(self._pictures, about, dict, PICTURES)
        room = LEVELS + len([key for key in values if isinstance(key, str)])
        value: T = _fresh(values, name, make, room)
        return value


def _fresh(values: dict[Hashable, Any], key: Hashable, make: Callable[[], Any], room: int) -> Any:
    """A value, which becomes the youngest; what is too old goes."""
    values[key] = values.pop(key) if key in values else make()
    while len(values) > room:
        del values[next(iter(values))]
    return values[key]


@dataclass(frozen=True)
class Cut(JpegPhoto):
    """A rectangle of a photo on whole MCUs, with its part of the coefficients; nothing is coded again."""

    blocks: tuple[NDArray[np.int16], ...] = ()

    def coefficients(self) -> tuple[NDArray[np.int16], ...]:
        """Quantized DCT coefficients of the rectangle."""
        return self.blocks


def cut(photo: JpegPhoto, blocks: tuple[NDArray[np.int16], ...], window: tuple[slice, slice]) -> Cut:
    """Cut a rectangle out of a photo.

    Args:
        photo: the whole.
        blocks: its coefficients, empty if they cannot be read.
        window: rows and columns; they start on the grid of MCUs and end there or at the photo's edge.
    """
    largest_h, largest_v = photo.header.max_sampling
    rows, columns = window
    parts = []
    for component, plane in zip(photo.header.components, blocks, strict=False):
        high, wide = 8 * largest_v // component.v, 8 * largest_h // component.h
        parts.append(
            plane[rows.start // high : -(-rows.stop // high), columns.start // wide : -(-columns.stop // wide)]
        )
    header = replace(photo.header, height=rows.stop - rows.start, width=columns.stop - columns.start)
    return Cut(photo.path, photo.data, photo.structure, header, tuple(parts))


def window_of(region: tuple[slice, slice], shape: tuple[int, ...], multiple: int) -> tuple[slice, slice]:
    """A region of a picture of this shape, widened by the margin, on the grids of the network and of JPEG's MCUs."""
    grid = math.lcm(multiple, 16)
    rows, columns = (
        slice(max(0, part.start - MARGIN) // grid * grid, min(side, -(-(part.stop + MARGIN) // grid) * grid))
        for part, side in zip(region, shape[:2], strict=True)
    )
    return rows, columns


def restored_part(
    memory: Memory,
    about: Hashable,
    source: NDArray[np.uint8],
    region: tuple[slice, slice],
    restorer: Restorer,
    embedding: Embedding,
    settings: Mapping[str, float],
    photo: JpegPhoto | None,
    tables: tuple[NDArray[np.uint16], ...] | None,
    progress: Progress,
) -> NDArray[Any]:
    """Restore a region and what it needs around it.

    The network works once for a region; other strengths are blends of what it gave.

    Args:
        memory: of earlier calls.
        about: what the picture is known by; calls with the same have the same source.
        source: the whole picture, uint8 (H, W, 3) or (H, W).
        region: rows and columns.
        restorer, embedding, tables: as for :meth:`~codiff_batch.engine.Restorer.restore_levels`.
        settings: ``strength`` and ``texture``, 0..1.
        photo: the JPEG in whose cells the result stays, or None.
        progress: called between tiles; what it raises ends the work.

    Returns:
        Levels in [0, 255] of the region.
    """
    from codiff_batch.engine.photo import settle

    window = window_of(region, source.shape, restorer.card.multiple)
    part = np.ascontiguousarray(source[window])
    name = ("levels", restorer.name, str(window), settings["texture"], embedding.qf)
    full: Levels = memory.recall(
        about,
        name,
        lambda: restorer.restore_levels(
            part, strength=1.0, texture=settings["texture"], tables=tables, embedding=embedding, progress=progress
        ),
    )
    strength = np.float32(settings["strength"])
    levels = full * strength + part * (1 - strength)
    if photo is not None and strength > 0:
        readable = has_readable_coefficients(photo)
        blocks = memory.recall(about, "blocks", photo.coefficients) if readable else ()
        levels = settle(levels, cut(photo, blocks, window), embedding.qf)
    rows, columns = (
        slice(part.start - whole.start, part.stop - whole.start) for part, whole in zip(region, window, strict=True)
    )
    return levels[rows, columns]
