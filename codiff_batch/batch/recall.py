"""What the journal says about a photo before any work: already done, to be redone from its original, or new."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from codiff_batch.batch.journals import Journals
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Code, Kind, Outcome
from codiff_batch.batch.plan import Task
from codiff_batch.batch.rows import Attempt, Standing
from codiff_batch.errors import Collision, PhotoError
from codiff_batch.files.identity import Stamp, canonical, same_file, seen_from
from codiff_batch.files.reading import Contents, digest_of, read_whole, stamp_of


@dataclass(frozen=True)
class Recall:
    """One photo as it is now and as the journal knows it."""

    stamp: Stamp
    sha256: str | None
    """Digest of the photo's bytes; None where its stamp alone is known."""
    contents: Contents | None = None
    """The photo, where it had to be read to be recognised."""
    attempt: Attempt | None = None
    standing: Standing | None = None
    known: Outcome | None = None
    """What an earlier run made of this photo with these options, so that nothing is left to do."""
    finished: bool = False
    """Whether the journal does not have ``known`` yet, because the run that did it was killed before recording it."""
    origin: Path | None = None
    """Place of the original, where the photo is our own output and is to be made again."""

    @property
    def ours(self) -> frozenset[str]:
        """Digests of what may stand at the photo's target and be replaced."""
        digests = frozenset[str]() if self.standing is None else self.standing.digests
        if self.attempt is None or self.attempt.sha256 is None:
            return digests
        return digests | {self.attempt.sha256}  # A good photo's copy has the photo's own bytes.


def recall(task: Task, options: BatchOptions, journals: Journals) -> Recall:
    """Look a photo up.

    A photo is recognised by its stamp, or else by its bytes: disks give files other numbers at each mount, and
    libraries are copied and moved.

    Raises:
        PhotoError: the photo cannot be read.
        Collision: another photo's output stands where this one's would go.
    """
    attempt, standing = journals.attempt(task), journals.standing(task)
    stamp = stamp_of(task.source)
    quick = attempt if attempt is not None and attempt.stamp is not None and attempt.stamp.unchanged(stamp) else None
    # Version 0.1 kept no digests of skipped photos; their stamps must do.
    if quick is not None and (quick.sha256 or standing is None):
        seen = Recall(stamp, quick.sha256, None, attempt, standing)
    else:
        contents = read_whole(task.source, max_bytes=options.max_bytes)
        seen = Recall(contents.stamp, contents.sha256, contents, attempt, standing)
    asked = _Asked(task, options, journals)
    seen = asked.in_place(seen) if options.in_place else asked.beside(seen)
    if seen.known or seen.origin or attempt is None:
        return seen
    same = quick is not None or attempt.sha256 == seen.sha256
    return replace(seen, known=asked.skipped_before(attempt)) if same else seen


def is_anothers(standing: Standing, task: Task) -> bool:
    """Return True if what stands at a photo's place is there because of another photo that still exists."""
    if standing.source_below == seen_from(task.root, task.source):
        return False  # This one, of a library that was copied or moved together with the folder.
    return os.path.lexists(standing.source) and not same_file(standing.source, task.source)


def is_known(task: Task, options: BatchOptions, journals: Journals, *, failed_too: bool) -> bool:
    """Return True if the journal already knows the outcome of a photo as it is now; the photo is not read.

    Args:
        failed_too: count a failure as an outcome.
    """
    attempt = journals.attempt(task)
    try:
        if attempt is None or attempt.stamp is None or not attempt.stamp.unchanged(stamp_of(task.source)):
            # A photo without a stamp could not be read; that this is still so is nothing new.
            return attempt is not None and attempt.stamp is None and failed_too
    except PhotoError:
        return True  # Gone again.
    match attempt.outcome.outcome:
        case Kind.FAILED:
            return failed_too
        case Kind.RESTORED:
            standing = journals.standing(task)
            return standing is None or standing.made is None or journals.made_alike(standing.made)
        case Kind.SKIPPED:
            return journals.asked_alike(attempt)
    return True


class _Asked:
    """Compares what this run wants for a photo with what earlier runs did."""

    def __init__(self, task: Task, options: BatchOptions, journals: Journals) -> None:
        self._task, self._options, self._journals = task, options, journals

    def in_place(self, seen: Recall) -> Recall:
        """For a photo that may be our own output by now."""
        standing, digest, source = seen.standing, seen.sha256, canonical(self._task.source)
        if digest is None:
            return seen
        if standing is None or digest not in standing.digests:
            standing = self._journals.standing_with(self._task, digest)
            if standing is None or not standing.in_place:
                return seen
            if standing.source != source:
                if os.path.lexists(standing.source):
                    return seen  # A copy of a restored photo.
                # The photo was moved after it was restored; its original lies where it always did.
                standing = replace(standing, source=source)
                self._journals.of(self._task).stand(standing)
        now = standing.settled(digest)
        if self._is_done(now):
            finished = standing.intent is not None
            return replace(seen, standing=now, known=self._done(seen, standing), finished=finished)
        return replace(seen, standing=standing, origin=standing.place)

    def beside(self, seen: Recall) -> Recall:
        """For a photo whose output lies in another folder."""
        standing, digest, target = seen.standing, seen.sha256, self._task.target
        if standing is None:
            return seen
        if is_anothers(standing, self._task) and digest != standing.original:
            raise Collision(f"its output would replace that of {standing.source}: {target}")
        now = standing if standing.intent is None else standing.settled(digest_of(target))
        if digest == now.original and os.path.lexists(target) and self._is_done(now):
            return replace(seen, standing=now, known=self._done(seen, standing), finished=now.sha256 != standing.sha256)
        return seen

    def skipped_before(self, attempt: Attempt) -> Outcome | None:
        """What an earlier run said about this photo, if this run would say the same."""
        outcome, options = attempt.outcome, self._options
        if outcome.outcome is not Kind.SKIPPED or options.overwrite or outcome.code == Code.OUTPUT_EXISTS_ALREADY:
            return None
        if not self._journals.asked_alike(attempt):
            return None
        if options.again and (outcome.code == Code.RESTORED_BEFORE or self._journals.is_outdated(attempt.made)):
            return None
        if outcome.output is not None and not os.path.lexists(outcome.output):
            return None
        return replace(outcome, source=self._task.source)

    def _done(self, seen: Recall, standing: Standing) -> Outcome:
        """The outcome of a photo that needs no work."""
        task, intent = self._task, standing.intent
        told = seen.attempt.outcome if seen.attempt else Outcome(task.source, task.target, Kind.SKIPPED, "")
        told = replace(told, source=task.source, output=task.target, seconds=0.0)
        if intent is not None:
            return replace(
                told, outcome=Kind.RESTORED, code=Code.FINISHED_LATER, reason=intent.reason, model=intent.made.model
            )
        earlier = told.reason if told.outcome is Kind.RESTORED else "by an earlier run"
        return replace(told, outcome=Kind.SKIPPED, code=Code.DONE_BEFORE, reason=f"done before: {earlier}")

    def _is_done(self, standing: Standing) -> bool:
        made = standing.made
        if made is None or standing.sha256 is None or self._options.overwrite:
            return False
        return self._journals.made_alike(made) and not (self._options.again and self._journals.is_outdated(made))
