"""One photo's way: read, judge, restore, encode, write, record. The steps, without the threads that take them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codiff_batch import __version__
from codiff_batch.batch.journals import Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Code, Kind, Outcome, code_of
from codiff_batch.batch.outputs import Original, check_backup, may_replace, put_in_place, put_output, refuse_links
from codiff_batch.batch.plan import Task
from codiff_batch.batch.recall import Recall, recall
from codiff_batch.batch.rows import Attempt, Intent, Standing
from codiff_batch.engine.judge import Action, Verdict, header_decides, judge
from codiff_batch.errors import CannotRecord, CodiffError, Collision, FolderUnavailable, PhotoError
from codiff_batch.files.identity import canonical
from codiff_batch.files.reading import Contents, read_whole, sha256, stamp_of
from codiff_batch.files.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from codiff_batch.engine import Embedding
    from codiff_batch.engine.stream import Levels
    from codiff_batch.formats import Order
    from codiff_batch.jpeg import JpegPhoto
    from codiff_batch.jpeg.history import History

log = logging.getLogger(__name__)

Stage = Callable[[Task, str], None]
"""Told what is being done to which photo, for progress displays; called from worker threads."""


@dataclass(eq=False)
class Work:
    """One photo under way. It is settled once it has an outcome; no step is taken after that."""

    task: Task
    started: float = field(default_factory=time.monotonic)
    recall: Recall | None = None
    """What the journal knows of it."""
    contents: Contents | None = None
    """The photo as it was read."""
    photo: JpegPhoto | None = None
    """What is restored: the photo, or its original from the backup."""
    pixels: NDArray[np.uint8] | None = None
    history: History | None = None
    """What the pixels tell of earlier compressions, where the header does not decide."""
    crops: Sequence[NDArray[np.uint8]] = ()
    """What CaVE is to look at."""
    embedding: Embedding | None = None
    verdict: Verdict | None = None
    outcome: Outcome | None = None
    weight: int = 0
    """Pixels that the admission counts for it."""
    standing: Standing | None = None
    """What stands because of this attempt, for the journal."""
    known: bool = False
    """Whether the journal has this outcome from an earlier run."""

    def settle(self, outcome: Kind, reason: str, code: str, output: Path | None = None) -> None:
        """Give the photo its outcome."""
        record = Outcome(
            self.task.source, output, outcome, reason, code, seconds=round(time.monotonic() - self.started, 3)
        )
        if self.photo is not None:
            header = self.photo.header
            record = replace(record, header_qf=header.qf, width=header.width, height=header.height)
        if self.verdict is not None:
            record = replace(record, estimated_qf=self.verdict.estimated_qf)
        self.outcome = record


class PhotoSteps:
    """The steps of one photo's way; each may be called from several threads, for different photos."""

    def __init__(self, options: BatchOptions, journals: Journals | None, stage: Stage) -> None:
        self._options = options
        self._journals = journals
        self._stage = stage

    def attempt(self, work: Work, step: Callable[[Work], None]) -> None:
        """Take a step unless the photo is settled. Whatever is wrong with it ends in its outcome, not in an exception.

        Raises:
            ModelError, DeviceUnavailable, FolderUnavailable: no photo can be restored, so the batch must end.
        """
        if work.outcome is not None:
            return
        try:
            step(work)
        except PhotoError as error:
            work.settle(Kind.FAILED, _one_line(error), code_of(error))
        except CodiffError:
            raise
        except Exception as error:
            # The wall: one photo that breaks the program must not end a night's batch.
            work.settle(Kind.FAILED, f"unexpected {type(error).__name__}: {_one_line(error)}", code_of(error))

    def open(self, work: Work) -> None:
        """Read the file's bytes, structure and header, and settle what needs no pixels."""
        from codiff_batch.formats import refuse
        from codiff_batch.jpeg import JpegPhoto

        task, options = work.task, self._options
        if task.conflict:
            raise Collision(task.conflict)
        self._stage(task, "reading")
        if options.in_place:
            refuse_links(task.source)
        self.remember(work)
        if work.outcome is not None or self._is_in_the_way(work):
            return
        work.contents = (work.recall.contents if work.recall else None) or read_whole(task.source)
        data = self._original(work)
        work.photo = photo = JpegPhoto.from_bytes(data, path=task.source, max_pixels=options.max_pixels)
        metadata = photo.metadata()
        if metadata.restored_by and not options.again:
            self._skip(work, f"restored before: {metadata.restored_by}", Code.RESTORED_BEFORE)
        elif metadata.c2pa and not options.include_signed:
            self._skip(work, "signed: a C2PA manifest would no longer fit (see --include-signed)", Code.SIGNED)
        else:
            refuse(photo, options.format, self._order(photo))
            if header_decides(photo.header.qf, options.min_qf):
                work.verdict = judge(photo.header.qf, None, options.min_qf)
                if options.dry_run:
                    self._would(work, work.verdict)

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
        """Settle a photo whose output would replace what is not ours."""
        task, options = work.task, self._options
        ours = work.recall.ours if work.recall else frozenset()
        if options.in_place or options.dry_run or not os.path.lexists(task.target):
            return False
        if may_replace(task.target, task.source, ours=ours, overwrite=options.overwrite):
            return False
        self._refuse_others_output(work)
        reason = f"output exists already: {task.target} (see --overwrite)"
        work.settle(Kind.SKIPPED, reason, Code.OUTPUT_EXISTS_ALREADY, task.target)
        return True

    def _original(self, work: Work) -> bytes:
        """The bytes to start from: the photo's, or its backup's where the photo is our own output already."""
        assert work.contents is not None
        told = work.recall
        if told is None or told.origin is None or told.standing is None:
            return work.contents.data
        kept = work.task.root / told.origin
        check_backup(kept, told.standing.original, photo=work.task.source)
        return read_whole(kept, follow=False).data

    def decode(self, work: Work) -> None:
        """Decode the pixels and choose the crops that CaVE looks at."""
        from codiff_batch.engine.crops import textured_crops
        from codiff_batch.jpeg.history import look_back

        assert work.photo is not None
        pixels = work.photo.pixels()
        work.crops = [crop.copy() for crop in textured_crops(pixels)]
        if work.verdict is None:
            work.history = look_back(work.crops, pixels, work.photo.header.tables)
        if not self._options.dry_run:
            work.pixels = pixels

    def judge(self, work: Work) -> None:
        """Decide by what CaVE saw, and settle photos that are good already."""
        assert work.photo is not None
        assert work.embedding is not None
        seen = work.embedding
        verdict = work.verdict or judge(
            work.photo.header.qf, seen.qf, self._options.min_qf, work.history, spread=seen.spread
        )
        work.verdict = replace(verdict, estimated_qf=work.embedding.qf)
        if verdict.action is Action.SKIP:
            self._skip(work, verdict.reason, Code.GOOD_ALREADY)
        elif self._options.dry_run:
            self._would(work, verdict)

    def finish(self, work: Work, levels: Levels) -> None:
        """Constrain, encode and write what the network gave."""
        from codiff_batch.engine import settle

        assert work.photo is not None
        assert work.verdict is not None
        assert work.verdict.estimated_qf is not None
        options, photo = self._options, work.photo
        self._stage(work.task, "writing")
        # At strength 0 the source's own pixels were asked for, and nothing has to be bounded.
        constrain = options.constrain and options.strength > 0
        restored = settle(levels, photo, work.verdict.estimated_qf, constrain=constrain, pixels=work.pixels)
        data = self._encode(photo, restored, work.verdict.estimated_qf)
        self._write(work, photo, data)

    def record(self, work: Work) -> None:
        """Put a settled photo into the journal. Its own file is as the outcome says, even if that fails."""
        if self._journals is None or work.outcome is None:
            return
        journal = self._journals.of(work.task)
        try:
            told = work.recall
            if not work.known:
                journal.record(self._attempt(work, work.outcome), work.standing)
            elif told is not None and told.attempt is not None and told.contents is not None:
                # Its stamp changed, but not its bytes: next time it need not be read.
                journal.record(replace(told.attempt, stamp=told.stamp, sha256=told.sha256))
            else:
                journal.count_known()
        except (FolderUnavailable, PhotoError) as error:
            log.warning("cannot write the journal entry of %s: %s", printable(str(work.task.source)), error)

    def _attempt(self, work: Work, outcome: Outcome) -> Attempt:
        """What the journal keeps: of a photo rewritten in place, the new file is what the next run will find."""
        assert self._journals is not None
        task, seen, journals = work.task, work.contents or work.recall, self._journals
        stamp, digest = (None, None) if seen is None else (seen.stamp, seen.sha256)
        if self._options.in_place and outcome.outcome is Kind.RESTORED and work.standing is not None:
            stamp, digest = stamp_of(task.source), work.standing.sha256
        outcome = replace(outcome, output=outcome.output and canonical(outcome.output))
        source = canonical(task.source)
        return Attempt(task.place, source, stamp, digest, journals.asked, journals.made, outcome)

    def _encode(self, photo: JpegPhoto, restored: NDArray[np.uint8], estimated_qf: float) -> bytes:
        from codiff_batch.formats import encode

        return encode(restored, photo, self._options.format, self._order(photo, estimated_qf))

    def _order(self, photo: JpegPhoto, estimated_qf: float = 0) -> Order:
        from codiff_batch.formats import Order

        options, model = self._options, Path(self._options.model).name
        note = f"codiff-batch {__version__} model={model} qf={estimated_qf:.0f} source={sha256(photo.data)[:16]}"
        return Order(note, options.quality, options.include_signed)

    def _write(self, work: Work, photo: JpegPhoto, data: bytes) -> None:
        """Commit the output; the backup, where there is one, and the intent come first."""
        options, task, verdict = self._options, work.task, work.verdict
        assert verdict is not None
        assert work.contents is not None
        original = Original(task.source, work.contents, photo.data)
        if task.backup is not None:
            backup = task.root / work.recall.origin if work.recall and work.recall.origin else task.backup
            put_in_place(original, data, backup, record=lambda: self._intend(work, photo, data), owner=options.owner)
        else:
            ours = work.recall.ours if work.recall else frozenset()
            self._refuse_others_output(work)
            self._intend(work, photo, data)
            put_output(task.target, data, original, ours=ours, overwrite=options.overwrite, owner=options.owner)
        if work.standing is not None:
            work.standing = work.standing.settled(sha256(data))
        work.settle(Kind.RESTORED, verdict.reason, _code_of(verdict, options.min_qf), task.target)
        assert work.outcome is not None
        work.outcome = replace(work.outcome, model=options.model)

    def _refuse_others_output(self, work: Work) -> None:
        """Refuse to replace what another photo's restoration put there, even where the user says overwrite."""
        target = work.task.target
        if self._journals is None or not os.path.lexists(target):
            return
        digest = read_whole(target, follow=False).sha256 if not target.is_symlink() else ""
        other = self._journals.standing_with(work.task, digest)
        if other is not None and other.place != work.task.place and os.path.lexists(other.source):
            raise Collision(f"its output would take the place of that of {other.source}: {target}")

    def _intend(self, work: Work, photo: JpegPhoto, data: bytes) -> None:
        """Make durable what is about to be written."""
        if self._journals is None:
            return
        assert work.verdict is not None
        task, journals = work.task, self._journals
        original = sha256(photo.data)
        intent = Intent(sha256(data), original, journals.made, work.verdict.reason)
        before = work.recall.standing if work.recall else None
        standing = before or Standing(task.place, task.source, self._options.in_place, original)
        below = _below(task.source, task.root)
        work.standing = replace(standing, source=canonical(task.source), source_below=below, intent=intent, written=0.0)
        try:
            journals.of(task).stand(work.standing)
        except FolderUnavailable as error:
            work.standing = None
            raise CannotRecord(str(error)) from error

    def _would(self, work: Work, verdict: Verdict) -> None:
        code = _code_of(verdict, self._options.min_qf)
        work.settle(Kind.WOULD_BE_RESTORED, f"would be restored: {verdict.reason}", code)

    def _skip(self, work: Work, reason: str, code: Code) -> None:
        """Leave a photo alone, or copy it if the output folder is to be complete."""
        options, task = self._options, work.task
        if not options.copy_skipped or options.dry_run:
            work.settle(Kind.SKIPPED, reason, code)
            return
        assert work.contents is not None
        original = Original(task.source, work.contents, work.contents.data)
        ours = work.recall.ours if work.recall else frozenset[str]()
        if not os.path.lexists(task.copy) or may_replace(
            task.copy, task.source, ours=ours, overwrite=options.overwrite
        ):
            put_output(task.copy, original.data, original, ours=ours, overwrite=options.overwrite, owner=options.owner)
        work.settle(Kind.SKIPPED, reason, code, task.copy)


def _code_of(verdict: Verdict, min_qf: float) -> Code:
    header_says = verdict.header_qf is not None and header_decides(verdict.header_qf, min_qf)
    return Code.HEADER_SAYS_SO if header_says else Code.PIXELS_SAY_SO


def _below(path: Path, folder: Path) -> Path:
    """A path as seen from a folder, for disks that carry both and are mounted elsewhere."""
    return Path(os.path.relpath(canonical(path), folder.resolve()))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
