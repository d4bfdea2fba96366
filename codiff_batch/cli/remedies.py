"""What helps against an error, in the command line's terms: the names of its options."""

from __future__ import annotations

from collections.abc import Iterable

from codiff_batch.batch.outcome import Code, code_of
from codiff_batch.errors import (
    CodiffError,
    OutputExists,
    Role,
    SettingRefused,
    TookTooLong,
    TooManyBytes,
    TooManyPixels,
)

OPTIONS = {
    Role.BACKUP: "--backup",
    Role.BASE_MODEL: "models import --base",
    Role.BYTE_LIMIT: "--max-megabytes",
    Role.CLUSTER: "--cluster",
    Role.CONSTRAIN: "--no-constrain",
    Role.COPY_SKIPPED: "--copy-skipped",
    Role.DEVICES: "--device",
    Role.FORMAT: "--format",
    Role.GIMP_FOLDER: "--gimp-dir",
    Role.IN_PLACE: "--in-place",
    Role.INCLUDE_SIGNED: "--include-signed",
    Role.MODEL: "--model",
    Role.MODEL_NAME: "--name",
    Role.NEW_FOLDER: "--new-output or --new-backup",
    Role.OUTPUT: "--output",
    Role.OVERWRITE: "--overwrite",
    Role.PIXEL_LIMIT: "--max-megapixels",
    Role.REPLACE_MODEL: "--replace",
    Role.REPORT: "--report",
    Role.TYPES: "--types",
    Role.TIME_LIMIT: "--timeout",
    Role.TEXTURE: "--texture",
}


_OF_CODE: dict[str, tuple[Role, ...]] = {
    Code.SIGNED: (Role.INCLUDE_SIGNED,),
    Code.OUTPUT_EXISTS_ALREADY: (Role.OVERWRITE,),
    **{code_of(kind()): kind.remedies for kind in (OutputExists, TooManyBytes, TooManyPixels, TookTooLong)},
}


def hint(roles: Iterable[Role]) -> str:
    """What to append to a message: `` (see --output)``, or nothing if no option helps."""
    names = ", ".join(OPTIONS[role] for role in roles)
    return f" (see {names})" if names else ""


def hint_of(code: str) -> str:
    """What to append to the reason of an outcome, by its code."""
    return hint(_OF_CODE.get(code, ()))


def explained(error: CodiffError) -> str:
    """An error's message with the options that help."""
    if isinstance(error, SettingRefused):
        return f"{error} (see --{error.setting.replace('_', '-')})"
    return f"{error}{hint(error.remedies)}"
