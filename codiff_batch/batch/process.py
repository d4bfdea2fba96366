"""One photo's way: read, judge, restore, encode, write, record."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from codiff_batch import __version__
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outcome import Outcome
from codiff_batch.batch.outputs import keep_backup, write_atomically
from codiff_batch.batch.plan import Task
from codiff_batch.engine.judge import Action, Verdict, header_decides, judge
from codiff_batch.errors import CodiffError, PhotoError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from codiff_batch.engine import Restorer
    from codiff_batch.jpeg import JpegPhoto

Stage = Callable[[Task, str], None]
"""Told what is being done to which photo, for progress displays; called from worker threads."""


class SharedRestorer:
    """The one network of a batch: loaded when first needed, used by one thread at a time."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._restorer: Restorer | None = None

    def __enter__(self) -> Restorer:
        self._lock.acquire()
        try:
            if self._restorer is None:
                from codiff_batch.engine import Restorer

                options = self._options
                self._restorer = Restorer.load(options.model, options.device, models_dir=options.models_dir)
        except BaseException:
            self._lock.release()
            raise
        return self._restorer

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


@dataclass(frozen=True)
class _Done:
    """How a photo ended, before the record is filled in."""

    outcome: Literal["restored", "skipped"]
    reason: str
    output: Path | None = None
    verdict: Verdict | None = None


class PhotoProcessor:
    """Takes photos their whole way; may be called from several threads."""

    def __init__(self, options: BatchOptions, stage: Stage) -> None:
        self._options = options
        self._stage = stage
        self._restorer = SharedRestorer(options)

    def __call__(self, task: Task) -> Outcome:
        """Process one photo. Whatever is wrong with it ends in its outcome, never in an exception.

        Raises:
            ModelError, DeviceUnavailable: no photo can be restored, so the batch must end.
        """
        started = time.monotonic()
        photo: JpegPhoto | None = None
        try:
            if task.conflict:
                raise PhotoError(task.conflict)
            self._stage(task, "reading")
            before = _fingerprint(task.source)
            photo = self._open(task.source)
            done = self._process(task, photo, before)
            record = Outcome(task.source, done.output, done.outcome, done.reason)
            if done.verdict:
                record = replace(record, header_qf=done.verdict.header_qf, estimated_qf=done.verdict.estimated_qf)
        except PhotoError as error:
            record = Outcome(task.source, None, "failed", _one_line(error))
        except CodiffError:
            raise
        except Exception as error:
            # The wall: one photo that breaks the program must not end a night's batch.
            record = Outcome(task.source, None, "failed", f"unexpected {type(error).__name__}: {_one_line(error)}")
        if photo is not None:
            header = photo.header
            record = replace(record, header_qf=header.qf, width=header.width, height=header.height)
        model = self._options.model if record.outcome == "restored" else None
        return replace(record, model=model, seconds=round(time.monotonic() - started, 3))

    def _open(self, source: Path) -> JpegPhoto:
        from codiff_batch.jpeg import JpegPhoto

        return JpegPhoto.open(source, max_pixels=self._options.max_pixels)

    def _process(self, task: Task, photo: JpegPhoto, before: tuple[int, ...]) -> _Done:
        options = self._options
        if not (options.in_place or options.overwrite or options.dry_run) and os.path.lexists(task.target):
            return _Done("skipped", f"output exists already: {task.target} (see --overwrite)", task.target)
        metadata = photo.metadata()
        if metadata.restored_by:
            return self._skip(task, photo, f"restored before: {metadata.restored_by}")
        if metadata.c2pa and not options.include_signed:
            return self._skip(task, photo, "signed: a C2PA manifest would no longer fit (see --include-signed)")
        if options.in_place:
            _refuse_links(task.source)
        self._stage(task, "judging")
        pixels = photo.pixels()
        verdict = self._judge(photo, pixels)
        if verdict.action is Action.SKIP:
            return self._skip(task, photo, verdict.reason, verdict)
        if options.dry_run:
            return _Done("restored", f"would be restored: {verdict.reason}", verdict=verdict)
        restored, verdict = self._restore(task, photo, pixels, verdict)
        self._stage(task, "writing")
        data = self._encode(photo, restored, verdict)
        self._write(task, photo, data, before)
        return _Done("restored", verdict.reason, task.target, verdict)

    def _judge(self, photo: JpegPhoto, pixels: NDArray[np.uint8]) -> Verdict:
        header_qf, min_qf = photo.header.qf, self._options.min_qf
        if header_decides(header_qf, min_qf):
            return judge(header_qf, None, min_qf)
        with self._restorer as restorer:
            return judge(header_qf, restorer.estimate_qf(pixels), min_qf)

    def _restore(
        self, task: Task, photo: JpegPhoto, pixels: NDArray[np.uint8], verdict: Verdict
    ) -> tuple[NDArray[np.uint8], Verdict]:
        """Restore, and add CaVE's estimate to the verdict where judging did without."""
        from codiff_batch.engine import restore_photo

        options = self._options
        with self._restorer as restorer:
            self._stage(task, "restoring")
            if verdict.estimated_qf is None:
                verdict = replace(verdict, estimated_qf=restorer.estimate_qf(pixels))
            restored = restore_photo(
                photo,
                restorer,
                strength=options.strength,
                constrain=options.constrain,
                pixels=pixels,
                estimated_qf=verdict.estimated_qf,
                progress=lambda done, tiles: self._stage(task, f"restoring {done}/{tiles}"),
            )
        return restored, verdict

    def _encode(self, photo: JpegPhoto, restored: NDArray[np.uint8], verdict: Verdict) -> bytes:
        from codiff_batch.jpeg import encode_as, encode_jpeg

        options = self._options
        note = f"codiff-batch {__version__} model={Path(options.model).name} qf={verdict.estimated_qf:.0f}"
        if options.format == "same" or options.format == "jpeg":
            signed = options.include_signed
            return encode_jpeg(restored, photo, note=note, quality=options.quality, drop_signature=signed)
        return encode_as(restored, photo, options.format, note=note, quality=options.quality)

    def _write(self, task: Task, photo: JpegPhoto, data: bytes, before: tuple[int, ...]) -> None:
        """Commit the output, the backup first, unless the source changed meanwhile."""
        if _fingerprint(task.source) != before:
            raise PhotoError("changed while it was worked on; run again")
        if task.backup is not None:
            keep_backup(task.backup, photo.data, like=task.source)
        overwrite = self._options.overwrite or self._options.in_place
        write_atomically(task.target, data, like=task.source, overwrite=overwrite)

    def _skip(self, task: Task, photo: JpegPhoto, reason: str, verdict: Verdict | None = None) -> _Done:
        """Leave a photo alone, or copy it if the output folder is to be complete."""
        options = self._options
        if not options.copy_skipped or options.dry_run:
            return _Done("skipped", reason, verdict=verdict)
        if options.overwrite or not os.path.lexists(task.copy):
            write_atomically(task.copy, photo.data, like=task.source, overwrite=options.overwrite)
        return _Done("skipped", reason, task.copy, verdict)


def _fingerprint(path: Path) -> tuple[int, ...]:
    """What changes when a file is written to or replaced."""
    try:
        found = path.stat()
    except OSError as error:
        raise PhotoError(f"cannot be read: {error.strerror}") from error
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _refuse_links(path: Path) -> None:
    """Replacing a link in place would leave its other name, or its target, with the old picture."""
    if path.is_symlink():
        raise PhotoError("is a symbolic link, which --in-place would turn into a file; name its target instead")
    if path.stat().st_nlink > 1:
        raise PhotoError("has several names (hard links), which --in-place would tear apart")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
