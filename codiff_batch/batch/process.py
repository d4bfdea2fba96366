"""One photo's way: read, judge, restore, encode, write, record. The steps, without the threads that take them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from codiff_batch import __version__
from codiff_batch.batch.journals import Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Code, Kind, Outcome, Step, code_of
from codiff_batch.batch.outputs import Original, check_backup, may_replace, put_in_place, put_output, refuse_links
from codiff_batch.batch.plan import Task
from codiff_batch.batch.recall import Recall, is_anothers, recall
from codiff_batch.batch.rows import Attempt, Intent, Standing
from codiff_batch.engine.judge import Action, Verdict
from codiff_batch.errors import CannotRecord, CodiffError, Collision, FolderUnavailable, PhotoError
from codiff_batch.files.identity import canonical, seen_from
from codiff_batch.files.reading import Contents, digest_of, read_whole, sha256, stamp_of
from codiff_batch.files.text import printable

if TYPE_CHECKING:
    from codiff_batch.engine.photo import Decoded, Judged
    from codiff_batch.engine.restorer import Restorer
    from codiff_batch.engine.stream import Embedding, Kept, Levels, Pixels
    from codiff_batch.formats import Order
    from codiff_batch.jpeg.header import Header
    from codiff_batch.jpeg.metadata import MetadataSummary
    from codiff_batch.rasters.raster import RasterHeader
    from codiff_batch.rasters.source import Source

log = logging.getLogger(__name__)

T = TypeVar("T")

Stage = Callable[[Task, str], None]
"""Receives what is being done to which photo, for progress displays; called from worker threads."""


@dataclass(eq=False)
class Work:
    """One photo under way. It is settled once it has an outcome; no step is taken after that."""

    task: Task
    started: float = field(default_factory=time.monotonic)
    recall: Recall | None = None
    """What the journal knows of it."""
    contents: Contents | None = None
    """The photo as it was read."""
    header: Header | RasterHeader | None = None
    estimated_qf: float | None = None
    outcome: Outcome | None = None
    weight: int = 0
    """Pixels that the admission counts for it."""
    file_bytes: int = 0
    """Bytes that the admission counts for it."""
    commit: Callable[[], None] = lambda: None
    """Called before its file appears; raises if the photo was given up meanwhile."""
    standing: Standing | None = None
    """What stands because of this attempt, for the journal."""
    known: bool = False
    """Whether the journal has this outcome from an earlier run."""
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds by step."""
    queued: float = 0.0
    """When its tiles were queued for the device."""

    @contextmanager
    def timed(self, step: Step) -> Iterator[None]:
        """Count the time of a block as a step's."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.took(step, time.monotonic() - started)

    def took(self, step: Step, seconds: float) -> None:
        """Add to a step's time."""
        self.steps[step] = round(self.steps.get(step, 0.0) + seconds, 4)

    def settle(
        self, outcome: Kind, reason: str, code: str, output: Path | None = None, *, model: str | None = None
    ) -> None:
        """Give the photo its outcome."""
        seconds = round(time.monotonic() - self.started, 3)
        record = Outcome(self.task.source, output, outcome, reason, code, model=model, seconds=seconds)
        if (header := self.header) is not None:
            record = replace(record, header_qf=header.qf, width=header.width, height=header.height)
        self.outcome = replace(record, estimated_qf=self.estimated_qf)

    @property
    def pixels(self) -> int:
        """How many the photo has, once that is known."""
        return self.header.width * self.header.height if self.header is not None else 0

    @property
    def ours(self) -> frozenset[str]:
        """Digests of what may stand at its target and be replaced."""
        return self.recall.ours if self.recall else frozenset()


@dataclass(frozen=True, eq=False)
class Opened:
    """A photo that was read and not settled."""

    work: Work
    contents: Contents
    photo: Source
    """What is restored: the photo, or its original from the backup."""


@dataclass(frozen=True, eq=False)
class Sight:
    """A photo that CaVE is to look at."""

    opened: Opened
    decoded: Decoded
    crops: Sequence[Pixels]


@dataclass(frozen=True, eq=False)
class Ready:
    """A photo that is to be restored."""

    opened: Opened
    judged: Judged

    @property
    def task(self) -> Task:
        """Where it comes from and goes."""
        return self.opened.work.task


def why_left_alone(metadata: MetadataSummary, *, again: bool, include_signed: bool) -> tuple[str, Code] | None:
    """Return the reason and its code for a photo that is not restored, whatever its quality; None for any other."""
    if metadata.restored_by and not again:
        return f"restored before: {metadata.restored_by}", Code.RESTORED_BEFORE
    if metadata.c2pa and not include_signed:
        return "signed: a C2PA manifest would no longer fit", Code.SIGNED
    return None


class PhotoSteps:
    """The steps of one photo's way; each may be called from several threads, for different photos."""

    def __init__(self, options: BatchOptions, journals: Journals | None, stage: Stage) -> None:
        self._options = options
        self._journals = journals
        self._stage = stage

    def attempt(self, work: Work, step: Callable[[], T]) -> T | None:
        """Take a step and return its result; None if there is none, or if the step settled the photo.

        Whatever is wrong with the photo ends in its outcome, not in an exception.

        Raises:
            ModelError, DeviceUnavailable, FolderUnavailable: no photo can be restored, so the batch must end.
        """
        try:
            return step()
        except PhotoError as error:
            work.settle(Kind.FAILED, _one_line(error), code_of(error))
        except CodiffError:
            raise
        except Exception as error:
            # The wall: one photo that triggers a bug must not end a night's batch.
            work.settle(Kind.FAILED, f"unexpected {type(error).__name__}: {_one_line(error)}", code_of(error))
        return None

    def open(self, work: Work) -> Opened | None:
        """Read the file's bytes, structure and header, and settle what needs no pixels."""
        with work.timed(Step.READ):
            return self._open(work)

    def _open(self, work: Work) -> Opened | None:
        from codiff_batch.engine.photo import judged_unseen
        from codiff_batch.formats import refuse
        from codiff_batch.rasters.source import open_source

        task, options = work.task, self._options
        if task.error:
            raise PhotoError(task.error)
        if task.conflict:
            raise Collision(task.conflict)
        self._stage(task, "reading")
        if options.in_place:
            refuse_links(task.source)
        self.remember(work)
        if work.outcome is not None or self._is_in_the_way(work):
            return None
        contents = work.recall.contents if work.recall else None
        work.contents = contents = contents or read_whole(task.source, max_bytes=options.max_bytes)
        data = self._original(work, contents)
        photo = open_source(data, options.types, path=task.source, max_pixels=options.max_pixels)
        work.header, metadata = photo.header, photo.metadata()
        if left_alone := why_left_alone(metadata, again=options.again, include_signed=options.include_signed):
            self._skip(work, contents, *left_alone)
            return None
        refuse(photo, options.format, self._order(photo))
        verdict = judged_unseen(photo.header.qf, options.settings, options.judging)
        if verdict is not None and options.dry_run:
            self._would(work, verdict)
            return None
        return Opened(work, contents, photo)

    def remember(self, work: Work) -> None:
        """Settle a photo that an earlier run finished with the same options, model and source."""
        if self._journals is None:
            return
        work.recall = told = recall(work.task, self._options, self._journals)
        if told.known is not None:
            work.known = not told.finished
            work.standing = told.standing if told.finished else None
            work.contents = told.contents
            work.outcome = told.known

    def _is_in_the_way(self, work: Work) -> bool:
        """Settle a photo whose output would replace a file that is not ours."""
        task, options = work.task, self._options
        if options.in_place or options.dry_run or not os.path.lexists(task.target):
            return False
        if may_replace(task.target, task.source, ours=work.ours, overwrite=options.overwrite):
            return False
        self._refuse_others_output(work)
        reason = f"output already exists: {task.target}"
        work.settle(Kind.SKIPPED, reason, Code.OUTPUT_EXISTS_ALREADY, task.target)
        return True

    def _original(self, work: Work, contents: Contents) -> bytes:
        """The bytes to start from: the photo's, or its backup's if the photo is already our own output."""
        told = work.recall
        if told is None or told.origin is None or told.standing is None:
            return contents.data
        kept = work.task.root / told.origin
        return check_backup(kept, told.standing.original, photo=work.task.source)

    def decode(self, opened: Opened) -> Sight:
        """Decode the pixels, choose the crops that CaVE looks at, and search for traces if they will be asked for."""
        from codiff_batch.engine.photo import Decoded, judged_unseen

        options, work = self._options, opened.work
        with work.timed(Step.DECODE):
            decoded = Decoded.of(opened.photo)
            crops = decoded.crops(options.settings)
        is_judged = judged_unseen(decoded.header_qf, options.settings, options.judging) is None
        if is_judged or (options.settings.qf is None and not options.dry_run):
            with work.timed(Step.JUDGE):
                _ = decoded.history  # Here, where many photos are read at a time, and not while the device waits.
        if options.dry_run:
            # From here on only the crops and the traits of the whole picture are needed.
            decoded = replace(decoded, stored=crops[0], whole=decoded.traits)
        elif not is_judged or decoded.history.earlier is not None:
            with work.timed(Step.DECODE):
                _ = decoded.pixels  # Beside the device too: it will most likely be restored.
        return Sight(opened, decoded, crops)

    def look(self, sights: Sequence[Sight], restorer: Restorer) -> list[Embedding]:
        """Have CaVE look at several photos at once, as closely as their verdicts need."""
        from codiff_batch.engine.photo import look_closely_enough

        pictures = [(sight.decoded, sight.crops) for sight in sights]
        return look_closely_enough(pictures, restorer, self._options.settings, self._options.judging)

    def judge(self, sight: Sight, embedding: Embedding) -> Ready | None:
        """Decide by what CaVE saw, and settle photos that are good already."""
        from codiff_batch.engine.photo import judged

        opened, options = sight.opened, self._options
        with opened.work.timed(Step.JUDGE):
            seen = judged(sight.decoded, embedding, options.settings, options.judging)
        opened.work.estimated_qf = seen.verdict.estimated_qf
        if seen.verdict.action is Action.SKIP:
            self._skip(opened.work, opened.contents, seen.verdict.reason, seen.verdict.ground)
        elif options.dry_run:
            self._would(opened.work, seen.verdict)
        else:
            with opened.work.timed(Step.DECODE):
                _ = seen.decoded.pixels  # Here, where it concerns one photo only if there is no memory for them.
            return Ready(opened, seen)
        return None

    def finish(self, ready: Ready, levels: Levels | Kept) -> None:
        """Settle the picture, encode and write it."""
        from codiff_batch.engine.settling import settled

        work = ready.opened.work
        self._stage(work.task, "writing")
        with work.timed(Step.SETTLE):
            restored = settled(ready.judged, levels, self._options.settings)
        with work.timed(Step.ENCODE):
            data = self._encode(ready, restored.pixels)
        with work.timed(Step.WRITE):
            self._write(ready, data)

    def record(self, work: Work) -> None:
        """Put a settled photo into the journal. Even if that fails, the files on disk are as the outcome says."""
        if work.outcome is not None and work.steps and not work.known:
            work.outcome = replace(work.outcome, steps=work.steps)
        if self._journals is None or work.outcome is None or work.task.error:
            return
        journal = self._journals.of(work.task)
        try:
            told = work.recall
            if not work.known:
                journal.record(self._attempt(work, work.outcome, self._journals), work.standing)
            elif told is not None and told.attempt is not None and told.contents is not None:
                # Its stamp changed, but not its bytes: with the new stamp it need not be read next time.
                journal.record(replace(told.attempt, stamp=told.stamp, sha256=told.sha256))
            else:
                journal.count_known()
        except (FolderUnavailable, PhotoError) as error:
            log.warning("cannot write the journal entry of %s: %s", printable(str(work.task.source)), error)

    def _attempt(self, work: Work, outcome: Outcome, journals: Journals) -> Attempt:
        """What the journal keeps; for a photo rewritten in place, about the new file, which the next run will find."""
        task, seen = work.task, work.contents or work.recall
        stamp, digest = (None, None) if seen is None else (seen.stamp, seen.sha256)
        if self._options.in_place and outcome.outcome is Kind.RESTORED and work.standing is not None:
            stamp, digest = stamp_of(task.source), work.standing.sha256
        outcome = replace(outcome, output=outcome.output and canonical(outcome.output))
        attempt = Attempt(task.place, task.source, stamp, digest, journals.asked, journals.made, outcome)
        return replace(attempt, source=task.source.absolute() if attempt.may_hang else canonical(task.source))

    def _encode(self, ready: Ready, restored: Pixels) -> bytes:
        from codiff_batch.formats import encode

        photo = ready.opened.photo
        return encode(restored, photo, self._options.format, self._order(photo, ready.judged.embedding.qf))

    def _order(self, photo: Source, estimated_qf: float = 0) -> Order:
        from codiff_batch.formats import Order

        options, model = self._options, Path(self._options.model).name
        note = f"codiff-batch {__version__} model={model} qf={estimated_qf:.0f} source={sha256(photo.data)[:16]}"
        return Order(note, options.quality, options.include_signed, options.refresh_thumbnail)

    def _write(self, ready: Ready, data: bytes) -> None:
        """Commit the output; the backup, where there is one, and the intent come first."""
        options, opened, verdict = self._options, ready.opened, ready.judged.verdict
        work, task = opened.work, opened.work.task
        work.commit()
        original = Original(task.source, opened.contents, opened.photo.data)
        if task.backup is not None:
            self._check_folder(task)  # Its disk may go away while the backup is written, so the intent checks again.
            backup = task.root / work.recall.origin if work.recall and work.recall.origin else task.backup
            put_in_place(original, data, backup, record=lambda: self._intend(ready, data), owner=options.owner)
        else:
            self._refuse_others_output(work)
            self._intend(ready, data)
            put_output(task.target, data, original, ours=work.ours, overwrite=options.overwrite, owner=options.owner)
        if work.standing is not None:
            work.standing = work.standing.settled(sha256(data))
        work.settle(Kind.RESTORED, verdict.reason, verdict.ground, task.target, model=options.model)

    def _check_folder(self, task: Task) -> None:
        if self._journals is not None:
            self._journals.check_folder(task)

    def _refuse_others_output(self, work: Work) -> None:
        """Refuse to replace another photo's output, even with ``overwrite``."""
        target = work.task.target
        if self._journals is None or not os.path.lexists(target):
            return
        digest = digest_of(target) or ""
        if digest in work.ours:
            return  # Its own, even if the same bytes were made of another photo too.
        other = self._journals.standing_with(work.task, digest)
        if other is not None and other.place != work.task.place and os.path.lexists(other.source):
            raise Collision(f"its output would replace that of {other.source}: {target}")

    def _intend(self, ready: Ready, data: bytes) -> None:
        """Make durable what is about to be written."""
        if self._journals is None:
            return
        work, journals = ready.opened.work, self._journals
        self._check_folder(work.task)
        task, original = work.task, sha256(ready.opened.photo.data)
        intent = Intent(sha256(data), original, journals.made, ready.judged.verdict.reason)
        before = work.recall.standing if work.recall else None
        if before is not None and before.in_place and is_anothers(before, task):
            # One of the same name and bytes in a copy of the folder, say; the journal would forget the first.
            raise Collision(f"its backup would also be that of {before.source}; choose another backup folder")
        standing = before or Standing(task.place, task.source, self._options.in_place, original)
        below = seen_from(task.root, task.source)
        work.standing = replace(standing, source=canonical(task.source), source_below=below, intent=intent, written=0.0)
        try:
            journals.of(task).stand(work.standing)
        except FolderUnavailable as error:
            work.standing = None
            raise CannotRecord(str(error)) from error

    def _would(self, work: Work, verdict: Verdict) -> None:
        work.settle(Kind.WOULD_BE_RESTORED, verdict.reason, verdict.ground)

    def _skip(self, work: Work, contents: Contents, reason: str, code: str) -> None:
        """Leave a photo alone, or copy it if the output folder is to be complete."""
        options, task = self._options, work.task
        if not options.copy_skipped or options.dry_run:
            work.settle(Kind.SKIPPED, reason, code)
            return
        self._check_folder(task)
        original, ours, overwrite = Original(task.source, contents, contents.data), work.ours, options.overwrite
        if not os.path.lexists(task.copy) or may_replace(task.copy, task.source, ours=ours, overwrite=overwrite):
            put_output(task.copy, original.data, original, ours=ours, overwrite=overwrite, owner=options.owner)
            if task.copy == task.target:
                work.standing = Standing(task.place, canonical(task.source), False, contents.sha256, contents.sha256)
        elif digest_of(task.copy) != contents.sha256:
            reason = f"{reason}; not copied, because {task.copy} already exists"
        work.settle(Kind.SKIPPED, reason, code, task.copy)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
