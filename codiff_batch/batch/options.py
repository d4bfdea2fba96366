"""What a batch is asked to do; the same for every front door that works on files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from codiff_batch.batch.shard import Shard
from codiff_batch.errors import OptionsConflict
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import DEFAULT_MODEL, find

Format = Literal["same", "jpeg", "png", "webp", "tiff", "avif", "jxl"]

DEFAULT_MAX_PIXELS = 200_000_000


@dataclass(frozen=True)
class BatchOptions:
    """Options of one run, named as on the command line."""

    paths: tuple[Path, ...]
    """Files and folders, as the user gave them."""
    output: Path | None = None
    """Output folder; None for a sibling ``<name>-restored`` of each folder."""
    min_qf: float = 60
    """Photos of at least this quality factor are skipped, 0..100."""
    model: str = DEFAULT_MODEL
    models_dir: Path | None = None
    device: str = "auto"
    """One device, or several with commas between: a process is started for each."""
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
    again: bool = False
    """Do again what an older model, rule or version of this program made."""
    new_folder: bool = False
    """The output or backup folder may be empty, though earlier runs used it."""
    in_place: bool = False
    backup: Path | None = None
    """Where untouched originals go before a file is replaced in place."""
    include_signed: bool = False
    """Restore C2PA-signed photos too; their manifest is dropped."""
    dry_run: bool = False
    jobs: int = 2
    max_pixels: int = DEFAULT_MAX_PIXELS
    shard: Shard | None = None
    """The part of the photos that this run works on; None for all."""
    cluster: str | None = None
    """Address of a Ray cluster whose machines share the work."""

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices, one by one."""
        return tuple(name.strip() for name in self.device.split(","))

    @property
    def owner(self) -> str:
        """Names this run's lock, journal and temporary files apart from those of other shards."""
        return str(self.shard) if self.shard else "all"

    @property
    def shape(self) -> str:
        """The options that shape what is written, as far as they differ from their defaults.

        With others a finished photo is done again; a new option changes nothing for photos that were done without it.
        """
        return self._differing("format", "quality", "strength", "texture", "constrain")

    @property
    def asked(self) -> str:
        """All options that decide what becomes of a photo, as far as they differ from their defaults."""
        return " ".join(filter(None, (self.shape, self._differing("min_qf", "copy_skipped", "include_signed"))))

    def _differing(self, *names: str) -> str:
        default = {field.name: field.default for field in fields(self)}
        return " ".join(f"{name}={getattr(self, name)}" for name in names if getattr(self, name) != default[name])

    def check(self) -> None:
        """Refuse options that cannot be meant together.

        Raises:
            OptionsConflict: with the reason.
            ModelNotFound, ModelDamaged: an option depends on the model, and there is none.
        """
        if self.texture < 1 and not read_card(find(self.model, self.models_dir)).adds_texture:
            raise OptionsConflict(f"--texture is for models that add some, such as natural; {self.model} adds none")
        from codiff_batch.formats import find_format

        find_format(self.format)
        if self.in_place and self.backup is None:
            raise OptionsConflict("--in-place needs --backup DIR, where the untouched originals are kept")
        if self.backup is not None and not self.in_place:
            raise OptionsConflict("--backup only makes sense with --in-place")
        if self.in_place and self.output is not None:
            raise OptionsConflict("--in-place and --output exclude each other")
        if self.in_place and self.format not in ("same", "jpeg"):
            raise OptionsConflict("--in-place keeps the JPEG format; --format must be same or jpeg")
        if self.cluster is not None and self.in_place:
            raise OptionsConflict("--cluster writes to an output folder; --in-place is for one machine")
        if self.cluster is not None and len(self.devices) > 1:
            raise OptionsConflict("--cluster finds its devices itself; --device may name one kind only")
        if self.in_place and self.copy_skipped:
            raise OptionsConflict("--copy-skipped has no meaning with --in-place: skipped photos stay where they are")
