"""Chooses the photos that represent all the others."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codiff_batch.preview.judging import Photo

NEAR = 10.0
"""A photo is doubtful if its quality factor is this near the line."""

SHARE = 4
"""One place in this many is for doubtful photos, and one for photos that were saved again."""

STUDIED = 6
"""Photos studied for each one that is chosen."""


@dataclass(frozen=True, eq=False)
class Studied:
    """A photo that was studied."""

    number: int
    """Its place among all photos."""
    origin: str
    """The camera, or what distinguishes one encoder from another."""
    content: NDArray[np.float32]
    """(K,) descriptors of light, colours and detail, each about 0..1."""


@dataclass(frozen=True)
class Chosen:
    """A photo that represents others, and why it was chosen."""

    number: int
    why: str


def candidates(photos: Sequence[Photo], min_qf: float, count: int) -> list[int]:
    """Photos to study: about :data:`STUDIED` times as many as will be chosen.

    They cover all kinds in a collection, by what is already known: quality, size and folder.
    """
    judged = [number for number, photo in enumerate(photos) if photo.quality is not None]
    wanted = STUDIED * count
    first = [*_doubtful(photos, judged, min_qf)[: 2 * count], *_saved_again(photos, judged)[: 2 * count]]
    kinds: dict[tuple[object, ...], list[int]] = {}
    rng = random.Random(0)
    for number in rng.sample(judged, len(judged)):
        outcome = photos[number].outcome
        sides = sorted((outcome.width or 0, outcome.height or 0))
        kinds.setdefault((*sides, outcome.header_qf, outcome.source.parent), []).append(number)
    # Large kinds first, in turns, so that a folder of a thousand screenshots does not hide the rest.
    groups = sorted(kinds.values(), key=len, reverse=True)
    turns = [group[turn] for turn in range(wanted) for group in groups if turn < len(group)]
    return list(dict.fromkeys([*first, *turns]))[: max(wanted, len(first))]


def choose(studied: Sequence[Studied], photos: Sequence[Photo], min_qf: float, count: int) -> list[Chosen]:
    """Choose doubtful and saved-again photos first, then those that differ most from the chosen ones, at every quality.

    Args:
        studied: candidates that could be decoded.
        photos: all of them.
        min_qf: the line.
        count: how many to take.

    Returns:
        At most ``count``, worst quality first.
    """
    known = {photo.number: photo for photo in studied}
    share = max(1, count // SHARE)
    taken: dict[int, str] = {}

    def take(numbers: Sequence[int], limit: int, why: str) -> None:
        for _ in range(min(limit, count - len(taken))):
            left = [number for number in numbers if number not in taken]
            if not left:
                return
            taken[_farthest(left, list(taken), known, photos)] = why

    doubtful = _doubtful(photos, list(known), min_qf)
    take(doubtful[: 2 * share], share, "near the line")
    take(_saved_again(photos, list(known)), share, "saved again")
    ranked = sorted(known, key=lambda number: photos[number].quality or 0)
    below = [number for number in ranked if photos[number].is_below(min_qf)]
    above = ranked[len(below) :]
    rest = count - len(taken)
    # Those above the line would be left alone: one or two are enough to see why.
    over = min(len(above), max(1, rest // 4)) if below else rest
    for numbers, places in ((below, rest - over), (above, over)):
        for part in np.array_split(np.array(numbers, int), max(1, places)):
            take([int(number) for number in part], 1, "")
    take(ranked, count, "")
    return [Chosen(number, taken[number]) for number in ranked if number in taken]


def _doubtful(photos: Sequence[Photo], numbers: Sequence[int], min_qf: float) -> list[int]:
    """Those near the line, nearest first."""
    away = {number: abs((photos[number].quality or 0) - min_qf) for number in numbers}
    return sorted((number for number in numbers if away[number] <= NEAR), key=away.__getitem__)


def _saved_again(photos: Sequence[Photo], numbers: Sequence[int]) -> list[int]:
    """Those saved again, most clearly so first."""
    gaps = {n: (photos[n].outcome.header_qf or 0) - (photos[n].quality or 0) for n in numbers}
    return sorted((n for n in numbers if photos[n].was_saved_again), key=lambda n: -gaps[n])


def _farthest(numbers: Sequence[int], taken: Sequence[int], known: dict[int, Studied], photos: Sequence[Photo]) -> int:
    """The one least like any chosen so far; the first of the list if none is chosen yet."""
    if not taken:
        return numbers[0]
    return max(numbers, key=lambda n: min(_distance(known[n], known[other], photos) for other in taken))


def _distance(one: Studied, other: Studied, photos: Sequence[Photo]) -> float:
    """How unlike two photos are: in quality, size, origin and content, each about 0..1."""
    first, second = photos[one.number], photos[other.number]
    far = abs((first.quality or 0) - (second.quality or 0)) / 50
    sizes = abs(np.log((first.outcome.megapixels or 1) / (second.outcome.megapixels or 1))) / 4
    content = float(np.linalg.norm(one.content - other.content))
    return far + float(sizes) + (one.origin != other.origin) + 2 * content
