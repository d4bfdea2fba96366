"""The line above which each photo would be restored. The rule is the engine's; here it is only asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Outcome, code_of
from codiff_batch.batch.plan import Task
from codiff_batch.batch.process import Stage
from codiff_batch.batch.run import run_batch
from codiff_batch.engine.judge import Ground
from codiff_batch.errors import CodiffError, PhotoError
from codiff_batch.files.reading import read_whole
from codiff_batch.rasters.source import Source, open_source
from codiff_batch.settings import Judging

if TYPE_CHECKING:
    from codiff_batch.engine import Embedding, Restorer
    from codiff_batch.engine.photo import Decoded

READERS = 4
LOOKS = 16
"""Photos that CaVE sees at once."""
PIXELS = 50_000_000
"""Of photos decoded at once; a larger photo is decoded alone."""

SAVED_AGAIN = 15.0
"""A photo is shown as saved again if it is this much worse than its file says."""


@dataclass(frozen=True)
class Photo:
    """One photo, judged for every line at once."""

    outcome: Outcome
    quality: float | None
    """Restored if the line is above it, else left alone; None for photos that no line restores: failed,
    signed, restored before. Below 0 for those that every line restores."""

    @property
    def is_certain(self) -> bool:
        """False if only the header was checked: then the quality may be lower, but not higher."""
        return self.quality is None or self.outcome.estimated_qf is not None

    @property
    def was_saved_again(self) -> bool:
        """Return True if its pixels are worse than the file says."""
        header = self.outcome.header_qf
        return self.quality is not None and header is not None and header - self.quality > SAVED_AGAIN

    def is_below(self, line: float) -> bool:
        """Return True if it would be restored at that line, as far as is known."""
        return self.quality is not None and self.quality < line


def judge_all(
    options: BatchOptions, tasks: Sequence[Task], restorer: Callable[[], Restorer], stage: Stage, *, look: bool
) -> Iterator[Photo]:
    """Judge photos as a dry run does, for every line.

    Args:
        options: of the intended run.
        tasks: its photos.
        restorer: gives the loaded model, if it is needed.
        stage: as for :func:`~codiff_batch.batch.run.run_batch`.
        look: also let CaVE see photos whose header decides.
    """
    # At a line of 100, headers decide for nearly all photos, so failures and skips are known without a network.
    dry = replace(options, dry_run=True, judging=Judging(min_qf=100))
    waiting = []
    for outcome in run_batch(dry, tasks, stage=stage):
        header = outcome.header_qf
        if not (outcome.outcome is Kind.WOULD_BE_RESTORED or outcome.code == Ground.GOOD):
            yield Photo(outcome, None)
        elif header is not None and header < options.judging.min_qf and not look:
            yield Photo(outcome, header)
        else:
            waiting.append(outcome)
    yield from look_at(waiting, options, restorer)


def look_at(outcomes: Sequence[Outcome], options: BatchOptions, restorer: Callable[[], Restorer]) -> Iterator[Photo]:
    """Let CaVE see photos; those that cannot be decoded have failed."""
    with ThreadPoolExecutor(READERS) as readers:
        for some in _groups(outcomes):
            decoded = list(readers.map(lambda outcome: _decode(outcome, options), some))
            seen = [one for one in decoded if not isinstance(one, Exception)]
            embeddings = iter(_embed(seen, restorer(), options)) if seen else iter(())
            for outcome, one in zip(some, decoded, strict=True):
                told = one if isinstance(one, Exception) else next(embeddings)
                if isinstance(told, Exception) or isinstance(one, Exception):
                    yield Photo(_failed(outcome, told), None)
                else:
                    yield Photo(replace(outcome, estimated_qf=told.qf), _quality(one, told, options))


def _groups(outcomes: Sequence[Outcome]) -> Iterator[list[Outcome]]:
    group: list[Outcome] = []
    for outcome in outcomes:
        if group and (len(group) == LOOKS or sum(o.megapixels for o in [*group, outcome]) * 1e6 > PIXELS):
            yield group
            group = []
        group.append(outcome)
    if group:
        yield group


def open_again(path: Path, options: BatchOptions) -> Source:
    """Read a photo of any kind that the run would take.

    Raises:
        PhotoError: it cannot be read, or is refused.
    """
    data = read_whole(path, max_bytes=options.max_bytes).data
    return open_source(data, options.types, path=path, max_pixels=options.max_pixels)


def _decode(outcome: Outcome, options: BatchOptions) -> Decoded | Exception:
    from codiff_batch.engine.photo import Decoded

    try:
        return Decoded.of(open_again(outcome.source, options))
    except Exception as error:  # No exception of one photo may end the others, as in a batch.
        return error


def _embed(seen: Sequence[Decoded], restorer: Restorer, options: BatchOptions) -> list[Embedding | Exception]:
    crops = [one.crops(options.settings) for one in seen]
    try:
        return list(restorer.embed_crops(crops))
    except PhotoError as error:
        if len(seen) == 1:
            return [error]
        return [told for one in seen for told in _embed([one], restorer, options)]


def _failed(outcome: Outcome, error: object) -> Outcome:
    assert isinstance(error, Exception)
    words = " ".join(str(error).split())
    if not isinstance(error, PhotoError):
        if isinstance(error, CodiffError):
            raise error
        words = f"unexpected {type(error).__name__}: {words}"
    return replace(outcome, outcome=Kind.FAILED, reason=words, code=code_of(error))


def _quality(decoded: Decoded, embedding: Embedding, options: BatchOptions) -> float:
    """Ask the judge at whole numbers, which people choose; return where the verdict changes between two of them."""
    from codiff_batch.engine.judge import Action
    from codiff_batch.engine.photo import judged

    def is_restored(line: int) -> bool:
        verdict = judged(decoded, embedding, options.settings, Judging(min_qf=line)).verdict
        return verdict.action is Action.RESTORE

    low, high = -1, 101  # left alone at the one, restored at the other
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_restored(middle) else (middle, high)
    header = None if decoded.photo is None else decoded.photo.header.qf
    known = (value for value in (embedding.qf, header) if value is not None and low <= value < high)
    return next(known, float(low))
