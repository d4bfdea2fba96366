"""Makes a new journal from the files on disk: the bytes of backups or outputs, and the notes in restored files."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from codiff_batch.batch.journal import Journal, journal_path, journals_in, owner_of
from codiff_batch.batch.journals import UNKNOWN_SHAPE, locked
from codiff_batch.batch.ledger import Ledger, read_ledger
from codiff_batch.batch.marks import Holds, claim, read_mark
from codiff_batch.batch.outcome import Code, Kind, Outcome, code_of
from codiff_batch.batch.rows import Attempt, Made, Standing
from codiff_batch.batch.scan import SUFFIXES
from codiff_batch.errors import FolderUnavailable, JournalDamaged, OptionsConflict, PhotoError
from codiff_batch.files.identity import MARK_FOLDER, canonical, real, seen_from
from codiff_batch.files.reading import Contents, read_whole
from codiff_batch.jpeg import JpegPhoto

_NOTE = re.compile(
    r"codiff-batch (?P<program>\S+) model=(?P<model>.*?) qf=\d+"
    r"(?: source=(?P<source>[0-9a-f]+))?(?: picture=[0-9a-f]+)?$"
)


UNFINISHED = "rebuilt.sqlite"
"""The new journal while it is made, beside the old ones, which count until it is complete."""


def rebuild(folder: Path, photos: Sequence[Path]) -> Iterator[Outcome]:
    """Make a new journal of an output or backup folder, and yield what was found for each file in it.

    The old journals are kept beside it under another name, once the new one is complete.

    Args:
        folder: the output or backup folder.
        photos: the folders or files that its photos were taken from, as they were given to the run.

    Raises:
        FolderLocked: a run is using the folder.
        FolderUnavailable: it cannot be written to, or was never ours.
        OptionsConflict: no photos are named.
    """
    if not (folder / MARK_FOLDER).is_dir():
        raise FolderUnavailable(f"{folder} is not an output or backup folder of codiff-batch")
    if not photos:
        raise OptionsConflict("name the folders that the photos were taken from")
    with locked(folder, "all"):
        for owner in {owner_of(path) for path in journals_in(folder)} - {"all"}:
            with locked(folder, owner):
                pass
        files = list(_files(folder))
        holds = _holds(folder, files, photos)
        before = _before(folder)
        unfinished = folder / MARK_FOLDER / UNFINISHED
        for part in _parts(unfinished):
            part.unlink(missing_ok=True)
        with contextlib.closing(Journal(unfinished)) as journal:
            journal.begin("rebuilt", len(files), [*photos, *before.roots])
            for file in files:
                found = _note(journal, folder, file, photos, in_place=holds is Holds.BACKUPS)
                if found.outcome is Kind.FAILED and (standing := before.standing.get(file.relative_to(folder))):
                    journal.stand(standing)  # Its photo may turn up again later.
                yield found
            journal.end()
        _set_aside(folder)
        try:
            claim(folder, holds)  # While no journal, which may know less than the old one, tells what the folder holds.
        finally:
            unfinished.rename(journal_path(folder, "all"))


def _before(folder: Path) -> Ledger:
    """What the old journals say, where they can still be read."""
    try:
        return read_ledger(folder)
    except FolderUnavailable:
        return Ledger()


def _note(journal: Journal, folder: Path, file: Path, photos: Sequence[Path], *, in_place: bool) -> Outcome:
    """Find the photo that belongs to a file, and write down what stands."""
    place = file.relative_to(folder)
    try:
        kept = read_whole(file, follow=False)
        source = _photo_of(place, photos, in_place=in_place)
        if source is None:
            return Outcome(file, None, Kind.FAILED, "its photo was not found", "photo-missing")
        photo = read_whole(source)
        written, original = (photo, kept) if in_place else (kept, photo)
        note = _note_of(written)
        if note is None:
            reason = "the photo is not restored" if in_place else "is not an output"
            return Outcome(file, None, Kind.SKIPPED, reason, "nothing-stands")
        if not original.sha256.startswith(note["source"]):
            return Outcome(file, None, Kind.FAILED, f"was not made from {source}", "another-original")
        made = Made(UNKNOWN_SHAPE, note["model"], program=note["program"])
        below = seen_from(folder, source)
        standing = Standing(
            *(place, canonical(source), in_place, original.sha256, written.sha256, made), source_below=below
        )
        found = Outcome(canonical(source), source if in_place else file, Kind.RESTORED, "found again", Code.DONE_BEFORE)
        journal.record(Attempt(place, canonical(source), photo.stamp, photo.sha256, "", made, found), standing)
        return found
    except PhotoError as error:
        return Outcome(file, None, Kind.FAILED, str(error), code_of(error))


def _photo_of(place: Path, photos: Sequence[Path], *, in_place: bool) -> Path | None:
    """The photo whose output or backup has this place; outputs may have another suffix, backups never."""
    for photo in photos:
        if photo.is_file():
            same = photo.name == place.name if in_place else photo.stem == place.stem
            candidates = [photo] if same else []
        else:
            branch = place.relative_to(real(photo).name) if place.parts[0] == real(photo).name else place
            candidates = [photo / place, photo / branch]
            if not in_place:
                candidates += [path.with_suffix(suffix) for path in (*candidates,) for suffix in sorted(SUFFIXES)]
        if found := next((path for path in candidates if path.is_file()), None):
            return found
    return None


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink():
            yield path


def _holds(folder: Path, files: Sequence[Path], photos: Sequence[Path]) -> Holds:
    """What a folder contains: its mark says it, or a journal that knows of backups, or else its files do."""
    with contextlib.suppress(JournalDamaged):
        if (mark := read_mark(folder)) and (mark.id or mark.holds is Holds.BACKUPS):
            return mark.holds
    return _guess(folder, files, photos)


def _guess(folder: Path, files: Sequence[Path], photos: Sequence[Path]) -> Holds:
    """What files are: outputs carry our note; originals do not, unless they were restored before they were kept."""
    for file in files:
        with contextlib.suppress(PhotoError):
            kept = read_whole(file, follow=False)
            if _note_of(kept) is None:
                continue
            photo = _photo_of(file.relative_to(folder), photos, in_place=True)
            note = None if photo is None else _note_of(read_whole(photo))
            made_from_it = note is not None and note["source"] and kept.sha256.startswith(note["source"])
            return Holds.BACKUPS if made_from_it else Holds.OUTPUTS
    return Holds.BACKUPS


def _note_of(contents: Contents) -> dict[str, str] | None:
    try:
        note = JpegPhoto.from_bytes(contents.data).metadata().restored_by
    except PhotoError:
        return None
    match = _NOTE.match(note or "")
    return {name: value or "" for name, value in match.groupdict().items()} if match else None


def _set_aside(folder: Path) -> None:
    """Keep the replaced journals under another name, in case they are needed."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for path in journals_in(folder):
        for part in _parts(path):
            if part.exists():
                part.rename(part.with_name(f"{part.name}.before-{stamp}"))


def _parts(journal: Path) -> list[Path]:
    return [journal, *(journal.with_name(journal.name + suffix) for suffix in ("-wal", "-shm"))]
