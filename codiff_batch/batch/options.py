"""What a batch is asked to do; the same for every front door that works on files."""

# ruff: noqa: RUF009 - fields are made by a function of our own, and frozen values are shared

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from codiff_batch.batch.shard import Shard
from codiff_batch.errors import OptionsConflict, Role
from codiff_batch.files.opening import DEFAULT_MAX_BYTES
from codiff_batch.formats import NAMES, SAME, find_format
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import DEFAULT_MODEL, find
from codiff_batch.rasters.kinds import TYPES_HELP
from codiff_batch.settings import FLOATS_HELP, Floats, Judging, Settings

DEFAULT_MAX_PIXELS = 200_000_000


def _option(default: Any, help: str, **rest: Any) -> Any:
    """A field that front doors offer: they read its words and limits here.

    Args:
        default: of the option.
        help: one sentence.
        rest: limits (``low`` and ``high``, or ``above``) or ``choices``, a ``placeholder`` for the value,
            ``told_default`` where the default is no value, and ``once``: True for what only makes sense in a run that
            ends.
    """
    return field(default=default, metadata={"help": help, **rest})


@dataclass(frozen=True)
class BatchOptions:
    """Options of one run. The fields with help are what the command line offers (``cli/processing_options.py``)."""

    paths: tuple[Path, ...] = ()
    """Files and folders, as the user gave them."""
    names: tuple[Path, ...] = ()
    """Files of a list; their outputs keep their tree below the current folder."""
    exclude: tuple[str, ...] = ()
    """Patterns of files and folders not to take (:func:`codiff_batch.batch.scan.matches`)."""
    judging: Judging = Judging()
    settings: Settings = Settings()
    output: Path | None = _option(None, "Output folder.", told_default="<name>-restored beside the source")
    model: str = _option(
        DEFAULT_MODEL,
        "Model to use: a name from 'models list', or the path of a model folder.",
        placeholder="NAME",
    )
    models_dir: Path | None = _option(None, "Folder of installed models.", told_default="in the user's data directory")
    devices: tuple[str, ...] = _option(
        ("auto",),
        "Where the networks run: auto (a GPU if there is one), cpu, cuda, cuda:N, xpu (Intel) or mps (Apple); "
        "several run in a process each.",
        placeholder="DEVICE[,...]",
    )
    compiled: bool = _option(
        False, "Compile the networks first: takes minutes, pays off for large models and many photos."
    )
    precision: Floats = _option("auto", FLOATS_HELP)
    types: tuple[str, ...] = _option(
        ("jpeg",),
        TYPES_HELP,
        placeholder="TYPE[,...]",
    )
    format: str = _option(SAME, "Output format.", choices=NAMES)
    quality: int = _option(
        95, "Quality of JPEG (always 4:4:4), WebP, AVIF and JPEG XL outputs.", low=1, high=100, placeholder="N"
    )
    copy_skipped: bool = _option(False, "Copy skipped photos too. Failed photos and other files are not copied.")
    overwrite: bool = _option(False, "Replace existing outputs.")
    again: bool = _option(False, "Redo what an older model or version of this program made.")
    in_place: bool = _option(False, "Replace the photos themselves; needs a backup folder.")
    backup: Path | None = _option(None, "Folder for the untouched originals of photos that are replaced in place.")
    new_folder: bool = _option(False, "Start with an empty backup or output folder where earlier runs had theirs.")
    refresh_thumbnail: bool = _option(False, "Recreate the EXIF thumbnail from the restored picture, where it fits.")
    include_signed: bool = _option(False, "Restore C2PA-signed photos too; drops their manifest.")
    jobs: int | None = _option(
        None,
        "Threads for reading and decoding, and as many for encoding and writing.",
        low=1,
        high=64,
        placeholder="N",
        told_default="half of the processor's cores, at least 2",
    )
    max_pixels: int = _option(DEFAULT_MAX_PIXELS, "Refuse larger photos before decoding them.", low=1, placeholder="N")
    max_bytes: int = _option(DEFAULT_MAX_BYTES, "Refuse larger files before reading them.", low=1, placeholder="N")
    timeout: float | None = _option(
        None,
        "Give up on a photo that takes longer to read, restore or encode.",
        above=0,
        placeholder="SECONDS",
        told_default="10 minutes plus 30 minutes per megapixel",
    )
    dry_run: bool = _option(False, "Judge every photo, but write nothing except the report.", once=True)
    shard: Shard | None = _option(
        None, "Process only part I of N; auto reads SLURM's variables.", placeholder="I/N|auto", once=True
    )
    cluster: str | None = _option(
        None, "Share the work on a Ray cluster; auto uses the running one.", placeholder="ADDRESS", once=True
    )

    @property
    def owner(self) -> str:
        """Names this run's lock, journal and temporary files apart from those of other shards."""
        return str(self.shard) if self.shard else "all"

    @property
    def shape(self) -> str:
        """The options that shape what is written, as far as they differ from their defaults.

        With others a finished photo is done again; a new option changes nothing for photos that were done without it.
        """
        return " ".join(
            (*_differing(self, "format", "quality", "precision", "refresh_thumbnail"), *_differing(self.settings))
        )

    @property
    def asked(self) -> str:
        """All options that decide what becomes of a photo, as far as they differ from their defaults."""
        own = _differing(self, "copy_skipped", "include_signed")
        return " ".join(filter(None, (self.shape, *_differing(self.judging), *own)))

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            OptionsConflict: with the reason.
            ModelNotFound, ModelDamaged: there is no such model.
        """
        find_format(self.format)
        self.settings.check(read_card(find(self.model, self.models_dir)))
        if self.in_place and self.backup is None:
            raise OptionsConflict("replacing photos in place needs a backup folder for the originals", Role.BACKUP)
        if self.backup is not None and not self.in_place:
            raise OptionsConflict("a backup folder is only for replacing photos in place", Role.IN_PLACE)
        if self.in_place and self.output is not None:
            raise OptionsConflict(
                "photos are either replaced in place or written to an output folder, not both",
                Role.IN_PLACE,
                Role.OUTPUT,
            )
        if self.in_place and self.format not in (SAME, "jpeg"):
            raise OptionsConflict(
                "photos that are replaced in place have to stay JPEG files", Role.IN_PLACE, Role.FORMAT
            )
        if self.in_place and self.types != ("jpeg",):
            raise OptionsConflict(
                "only JPEG files are replaced in place; files of other types may not keep everything that was in them",
                Role.IN_PLACE,
                Role.TYPES,
            )
        if self.in_place and self.copy_skipped:
            raise OptionsConflict(
                "in place, skipped photos stay where they are; there is nothing to copy", Role.COPY_SKIPPED
            )
        if self.cluster is not None and self.in_place:
            raise OptionsConflict("a cluster writes to an output folder, not in place", Role.CLUSTER, Role.IN_PLACE)
        if self.cluster is not None and len(self.devices) > 1:
            raise OptionsConflict("a cluster finds its devices itself; name at most one kind", Role.DEVICES)


def _differing(values: Any, *names: str) -> Iterator[str]:
    """The values of a dataclass that are not as by default, in words; of these fields, or of all."""
    for each in fields(values):
        if (not names or each.name in names) and getattr(values, each.name) != each.default:
            yield f"{each.name}={getattr(values, each.name)}"
