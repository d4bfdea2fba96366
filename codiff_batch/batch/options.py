"""What a batch is asked to do; the same for every front door that works on files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codiff_batch.batch.shard import Shard
from codiff_batch.errors import OptionsConflict, Role
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import DEFAULT_MODEL, find
from codiff_batch.opening import DEFAULT_MAX_BYTES

Format = Literal["same", "jpeg", "png", "webp", "tiff"]

DEFAULT_MAX_PIXELS = 200_000_000


@dataclass(frozen=True)
class BatchOptions:
    """Options of one run."""

    paths: tuple[Path, ...] = ()
    """Files and folders, as the user gave them."""
    names: tuple[Path, ...] = ()
    """Files of a list; their outputs keep their tree below the current folder."""
    exclude: tuple[str, ...] = ()
    """Patterns of files and folders not to take (:func:`codiff_batch.batch.scan.matches`)."""
    output: Path | None = None
    """Output folder; None for a sibling ``<name>-restored`` of each folder."""
    min_qf: float = 60
    """Photos of at least this quality factor are skipped, 0..100."""
    model: str = DEFAULT_MODEL
    models_dir: Path | None = None
    devices: tuple[str, ...] = ("auto",)
    """Where the networks run; a process is started for each of several."""
    compiled: bool = False
    """Have torch compile the networks first."""
    format: Format = "same"
    quality: int = 95
    """Of JPEG and WebP outputs, 1..100."""
    strength: float = 1.0
    texture: float = 1.0
    """How much of a model's texture to add, 0..1; less than 1 is for models that add some."""
    constrain: bool = True
    copy_skipped: bool = False
    overwrite: bool = False
    in_place: bool = False
    backup: Path | None = None
    """Where untouched originals go before a file is replaced in place."""
    include_signed: bool = False
    """Restore C2PA-signed photos too; their manifest is dropped."""
    dry_run: bool = False
    jobs: int = 2
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_bytes: int = DEFAULT_MAX_BYTES
    timeout: float | None = None
    """Seconds after which a step of one photo is given up; None for a limit that grows with the photo."""
    shard: Shard | None = None
    """The part of the photos that this run works on; None for all."""
    cluster: str | None = None
    """Address of a Ray cluster whose machines share the work."""

    @property
    def owner(self) -> str:
        """Names this run's lock, journal and temporary files apart from those of other shards."""
        return str(self.shard) if self.shard else "all"

    def digest(self) -> str:
        """Digest of the options that shape what is written; with others a finished photo is done again."""
        shaping = (
            *("min_qf", "format", "quality", "strength", "texture", "constrain"),
            *("copy_skipped", "in_place", "include_signed"),
        )
        text = json.dumps({name: getattr(self, name) for name in shaping})
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check(self) -> None:
        """Refuse options that cannot be meant together.

        Raises:
            OptionsConflict: with the reason.
            ModelNotFound, ModelDamaged: an option depends on the model, and there is none.
        """
        if self.texture < 1 and not read_card(find(self.model, self.models_dir)).adds_texture:
            raise OptionsConflict(
                f"less texture is for models that add some, such as natural; {self.model} adds none", Role.TEXTURE
            )
        if self.in_place and self.backup is None:
            raise OptionsConflict(
                "photos are replaced in place only with a backup folder, where the originals are kept", Role.BACKUP
            )
        if self.backup is not None and not self.in_place:
            raise OptionsConflict("a backup folder is only for photos that are replaced in place", Role.IN_PLACE)
        if self.in_place and self.output is not None:
            raise OptionsConflict(
                "photos are replaced in place or written to an output folder, not both", Role.IN_PLACE, Role.OUTPUT
            )
        if self.in_place and self.format not in ("same", "jpeg"):
            raise OptionsConflict("photos that are replaced in place stay JPEG files", Role.IN_PLACE, Role.FORMAT)
        if self.in_place and self.copy_skipped:
            raise OptionsConflict("in place, skipped photos stay where they are and need no copy", Role.COPY_SKIPPED)
        if self.cluster is not None and self.in_place:
            raise OptionsConflict("a cluster writes to an output folder, not in place", Role.CLUSTER, Role.IN_PLACE)
        if self.cluster is not None and len(self.devices) > 1:
            raise OptionsConflict("a cluster finds its devices itself; name one kind at most", Role.DEVICES)
