"""One photo's way: read, judge, restore, encode, write, record. The steps, without the threads that take them."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codiff_batch import __version__
from codiff_batch.batch.journal import Entry, Identity, entry_of, sha256
from codiff_batch.batch.journals import Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.batch.outputs import keep_backup, write_atomically
from codiff_batch.batch.plan import Task
from codiff_batch.batch.summary import printable
from codiff_batch.engine.judge import Action, Verdict, header_decides, judge
from codiff_batch.errors import CodiffError, PhotoError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from codiff_batch.engine import Embedding
    from codiff_batch.engine.stream import Levels
    from codiff_batch.formats import Order
    from codiff_batch.jpeg import JpegPhoto

log = logging.getLogger(__name__)

Stage = Callable[[Task, str], None]
"""Told what is being done to which photo, for progress displays; called from worker threads."""


@dataclass(eq=False)
class Work:
    """One photo under way. It is settled once it has an outcome; no step is taken after that."""

    task: Task
    started: float = field(default_factory=time.monotonic)
    identity: Identity | None = None
    """Of the source as it was read."""
    earlier: Entry | None = None
    """The journal's entry of an earlier run."""
    photo: JpegPhoto | None = None
    pixels: NDArray[np.uint8] | None = None
    crops: Sequence[NDArray[np.uint8]] = ()
    """What CaVE is to look at."""
    embedding: Embedding | None = None
    verdict: Verdict | None = None
    outcome: Outcome | None = None
    weight: int = 0
    """Pixels that the admission counts for it."""
    output_sha256: str | None = None
    """Of what was written, or is about to be."""
    source_sha256: str | None = None
    known: bool = False
    """Whether the journal has this outcome from an earlier run."""

    def settle(self, outcome: Kind, reason: str, output: Path | None = None) -> None:
        """Give the photo its outcome."""
        record = Outcome(self.task.source, output, outcome, reason, seconds=round(time.monotonic() - self.started, 3))
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
        self._digest = options.digest()
        self._journals = journals
        self._stage = stage

    def attempt(self, work: Work, step: Callable[[Work], None]) -> None:
        """Take a step unless the photo is settled. Whatever is wrong with it ends in its outcome, not in an exception.

        Raises:
            ModelError, DeviceUnavailable: no photo can be restored, so the batch must end.
        """
        if work.outcome is not None:
            return
        try:
            step(work)
        except PhotoError as error:
            work.settle("failed", _one_line(error))
        except CodiffError:
            raise
        except Exception as error:
            # The wall: one photo that breaks the program must not end a night's batch.
            work.settle("failed", f"unexpected {type(error).__name__}: {_one_line(error)}")

    def open(self, work: Work) -> None:
        """Read the file's bytes, structure and header, and settle what needs no pixels."""
        from codiff_batch.formats import refuse
        from codiff_batch.jpeg import JpegPhoto

        task, options = work.task, self._options
        if task.conflict:
            raise PhotoError(task.conflict)
        self._stage(task, "reading")
        self.remember(work)
        if work.outcome is not None:
            return
        replaces = options.in_place or options.overwrite or options.dry_run or self._wrote(work, task.target)
        if not replaces and os.path.lexists(task.target):
            work.settle("skipped", f"output exists already: {task.target} (see --overwrite)", task.target)
            return
        work.photo = photo = JpegPhoto.open(task.source, max_pixels=options.max_pixels)
        metadata = photo.metadata()
        if metadata.restored_by:
            self._skip(work, f"restored before: {metadata.restored_by}")
        elif metadata.c2pa and not options.include_signed:
            self._skip(work, "signed: a C2PA manifest would no longer fit (see --include-signed)")
        else:
            refuse(photo, options.format, self._order())
            if options.in_place:
                _refuse_links(task.source)
            if header_decides(photo.header.qf, options.min_qf):
                work.verdict = judge(photo.header.qf, None, options.min_qf)
                if options.dry_run:
                    work.settle("restored", f"would be restored: {work.verdict.reason}")

    def remember(self, work: Work) -> None:
        """Settle a photo that an earlier run finished with the same options, model and source."""
        task = work.task
        work.identity = Identity.of(task.source)
        if self._journals is None or self._options.overwrite:
            return
        work.earlier = earlier = self._journals.of(task).find(task.source)
        if earlier is None or (earlier.options, earlier.model) != (self._digest, self._journals.model):
            return
        unchanged = earlier.identity == work.identity
        if earlier.outcome == "writing" and (unchanged or self._options.in_place) and self._wrote(work, task.target):
            # The run was killed after the file had appeared and before that was recorded.
            work.output_sha256, work.source_sha256 = earlier.output_sha256, earlier.source_sha256
            work.settle("restored", earlier.reason, task.target)
        elif earlier.outcome in ("restored", "skipped") and unchanged and _is_there(earlier.output):
            work.known = True
            before = "done before: " if earlier.outcome == "restored" else ""
            work.settle("skipped", before + earlier.reason, earlier.output)

    def decode(self, work: Work) -> None:
        """Decode the pixels and choose the crops that CaVE looks at."""
        from codiff_batch.engine.crops import textured_crops

        assert work.photo is not None
        pixels = work.photo.pixels()
        work.crops = [crop.copy() for crop in textured_crops(pixels)]
        if not self._options.dry_run:
            work.pixels = pixels

    def judge(self, work: Work) -> None:
        """Decide by what CaVE saw, and settle photos that are good already."""
        assert work.photo is not None
        assert work.embedding is not None
        verdict = work.verdict or judge(work.photo.header.qf, work.embedding.qf, self._options.min_qf)
        work.verdict = replace(verdict, estimated_qf=work.embedding.qf)
        if verdict.action is Action.SKIP:
            self._skip(work, verdict.reason)
        elif self._options.dry_run:
            work.settle("restored", f"would be restored: {verdict.reason}")

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
        restored = settle(levels, photo, work.verdict.estimated_qf, constrain=constrain)
        data = self._encode(photo, restored, work.verdict.estimated_qf)
        self._write(work, photo, data)

    def record(self, work: Work) -> None:
        """Put a settled photo into the journal. Its own file is as the outcome says, even if that fails."""
        if self._journals is None or work.outcome is None:
            return
        journal = self._journals.of(work.task)
        try:
            if work.known:
                journal.settled()
                return
            rewritten = work.outcome.outcome == "restored" and self._options.in_place
            identity = Identity.of(work.task.target) if rewritten else work.identity
            journal.record(self._entry(work, work.outcome, identity), now=work.outcome.outcome == "restored")
        except (sqlite3.Error, PhotoError) as error:
            log.warning("cannot write the journal entry of %s: %s", printable(str(work.task.source)), error)

    def _entry(self, work: Work, outcome: Outcome, identity: Identity | None) -> Entry:
        assert self._journals is not None
        return replace(
            entry_of(outcome, identity or Identity(0, 0, 0), self._journals.model, self._digest),
            output_sha256=work.output_sha256,
            source_sha256=work.source_sha256,
            backup=work.task.backup if outcome.outcome == "restored" else None,
        )

    def _wrote(self, work: Work, path: Path) -> bool:
        """Whether this file is what an earlier run wrote there, byte for byte, so that it may be replaced."""
        earlier = work.earlier
        if earlier is None or earlier.output_sha256 is None or earlier.output != path.absolute():
            return False
        try:
            return sha256(path.read_bytes()) == earlier.output_sha256
        except OSError:
            return False

    def _encode(self, photo: JpegPhoto, restored: NDArray[np.uint8], estimated_qf: float) -> bytes:
        from codiff_batch.formats import encode

        return encode(restored, photo, self._options.format, self._order(estimated_qf))

    def _order(self, estimated_qf: float = 0) -> Order:
        from codiff_batch.formats import Order

        options = self._options
        note = f"codiff-batch {__version__} model={Path(options.model).name} qf={estimated_qf:.0f}"
        return Order(note, options.quality, options.include_signed)

    def _write(self, work: Work, photo: JpegPhoto, data: bytes) -> None:
        """Commit the output, the backup and the intent first, unless the source changed meanwhile."""
        options, task, verdict = self._options, work.task, work.verdict
        assert verdict is not None
        overwrite = options.overwrite or options.in_place or self._wrote(work, task.target)
        if task.backup is not None:
            _refuse_changed(work)
            keep_backup(task.backup, photo.data, like=task.source, owner=options.owner)
        self._intend(work, photo, data)
        _refuse_changed(work)
        write_atomically(task.target, data, like=task.source, overwrite=overwrite, owner=options.owner)
        work.settle("restored", verdict.reason, task.target)
        assert work.outcome is not None
        work.outcome = replace(work.outcome, model=options.model)

    def _intend(self, work: Work, photo: JpegPhoto, data: bytes) -> None:
        """Make durable what is about to be written."""
        if self._journals is None:
            return
        assert work.verdict is not None
        work.output_sha256, work.source_sha256 = sha256(data), sha256(photo.data)
        planned = Outcome(work.task.source, work.task.target, "restored", work.verdict.reason)
        try:
            entry = replace(self._entry(work, planned, work.identity), outcome="writing")
            self._journals.of(work.task).record(entry, now=True)
        except sqlite3.Error as error:
            raise PhotoError(f"cannot write the journal: {error}") from error

    def _skip(self, work: Work, reason: str) -> None:
        """Leave a photo alone, or copy it if the output folder is to be complete."""
        options, task = self._options, work.task
        if not options.copy_skipped or options.dry_run:
            work.settle("skipped", reason)
            return
        assert work.photo is not None
        data = work.photo.data
        overwrite = options.overwrite or self._wrote(work, task.copy)
        if overwrite or not os.path.lexists(task.copy):
            write_atomically(task.copy, data, like=task.source, overwrite=overwrite, owner=options.owner)
            work.output_sha256 = sha256(data)
        work.settle("skipped", reason, task.copy)


def _is_there(output: Path | None) -> bool:
    return output is None or os.path.lexists(output)


def _refuse_changed(work: Work) -> None:
    if Identity.of(work.task.source) != work.identity:
        raise PhotoError("changed while it was worked on; run again")


def _refuse_links(path: Path) -> None:
    """Replacing a link in place would leave its other name, or its target, with the old picture."""
    if path.is_symlink():
        raise PhotoError("is a symbolic link, which --in-place would turn into a file; name its target instead")
    if path.stat().st_nlink > 1:
        raise PhotoError("has several names (hard links), which --in-place would tear apart")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
