"""What a journal keeps of one photo: what stands on disk because of us, and what the last attempt said."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from codiff_batch.batch.outcome import Outcome, code_of
from codiff_batch.errors import TookTooLong
from codiff_batch.files.identity import Stamp

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Made:
    """What a file was made with."""

    shape: str
    """The options that shape the picture and differ from their defaults, in words (:attr:`BatchOptions.shape`)."""
    model: str
    weights: str = ""
    """Digest of the model's files."""
    rule: int = 0
    """Version of the judging rule."""
    program: str = ""
    """Version of this program."""


@dataclass(frozen=True)
class Intent:
    """A file that is about to appear."""

    sha256: str
    original: str
    """Digest of the photo that it was made from."""
    made: Made
    reason: str = ""


@dataclass(frozen=True)
class Standing:
    """What stands on disk because of us, for one photo."""

    place: Path
    """Of the output, or of the original's backup, relative to the folder of the journal."""
    source: Path
    """The photo; in place, what was rewritten."""
    in_place: bool
    original: str
    """Digest of the original, which is the source or, in place, lies at ``place``."""
    sha256: str | None = None
    """Digest of the file that we wrote; None while there is only an intent."""
    made: Made | None = None
    intent: Intent | None = None
    source_below: Path | None = None
    """The source as seen from the folder of the journal, for disks that are mounted elsewhere."""
    written: float = 0.0
    """Unix time."""

    @property
    def digests(self) -> frozenset[str]:
        """Of the files that may stand there now."""
        return frozenset(d for d in (self.sha256, self.intent and self.intent.sha256) if d)

    def settled(self, sha256: str | None) -> Standing:
        """What stands once the bytes at its name are known to have this digest."""
        if self.intent is not None and sha256 == self.intent.sha256:
            return replace(self, sha256=sha256, original=self.intent.original, made=self.intent.made, intent=None)
        return replace(self, intent=None)


@dataclass(frozen=True)
class Attempt:
    """What became of one photo when it was looked at last."""

    place: Path
    source: Path
    stamp: Stamp | None
    """Of the source as it was read; None where it could not be."""
    sha256: str | None
    """Digest of the source's bytes."""
    asked: str
    """All options that decide what becomes of a photo, in words (:attr:`BatchOptions.asked`)."""
    made: Made
    outcome: Outcome
    ended: float = 0.0
    """Unix time."""
    run: int = 0

    @property
    def may_hang(self) -> bool:
        """Whether the photo was given up before it was read: whoever looked at it again might wait for ever."""
        return self.stamp is None and self.outcome.code == code_of(TookTooLong())


STANDING = tuple(field.name for field in fields(Standing))
ATTEMPT = (*(field.name for field in fields(Attempt)), "output")


def standing_row(standing: Standing) -> Row:
    """Values for the columns ``STANDING``."""
    return tuple(_stored(getattr(standing, name)) for name in STANDING)


def attempt_row(attempt: Attempt, folder: Path) -> Row:
    """Values for the columns ``ATTEMPT``; outputs in the journal's folder are kept relative to it."""
    output = attempt.outcome.output
    if output is not None and output.is_relative_to(folder):
        output = output.relative_to(folder)
    return (*(_stored(getattr(attempt, name)) for name in ATTEMPT[:-1]), _stored(output))


def standing_of(row: Row) -> Standing:
    """Read a row.

    Raises:
        msgspec.ValidationError: it is not one; what stands must not be forgotten, so this is an error.
    """
    named = dict(zip(STANDING, row, strict=True))
    named |= {name: _path(named[name]) for name in ("place", "source", "source_below")}
    named |= {"made": _told(named["made"]), "intent": _told(named["intent"]), "in_place": bool(named["in_place"])}
    return msgspec.convert(named, Standing)


def attempt_of(row: Row, folder: Path) -> Attempt | None:
    """Read a row; None if it is not one."""
    named = dict(zip(ATTEMPT, row, strict=True))
    named |= {name: _path(named[name]) for name in ("place", "source")}
    told, output = _told(named["outcome"]), _path(named.pop("output"))
    places = {"source": named["source"], "output": None if output is None else folder / output}
    named["outcome"] = told | places if isinstance(told, dict) else None
    named |= {"made": _told(named["made"]), "stamp": _told(named["stamp"])}
    try:
        return msgspec.convert(named, Attempt)
    except msgspec.ValidationError:
        return None


def _stored(value: Any) -> object:
    if isinstance(value, Path):
        return os.fsencode(value)  # Bytes, for names that are not UTF-8.
    if isinstance(value, Outcome):
        return json.dumps({k: v for k, v in asdict(value).items() if not isinstance(v, Path)})
    return json.dumps(asdict(value)) if isinstance(value, Made | Intent | Stamp) else value


def _told(text: object) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


def _path(value: object) -> Path | None:
    """A path that a file can have; None for anything else."""
    name = os.fsdecode(value) if isinstance(value, bytes) else None
    return None if name is None or "\0" in name else Path(name)
