"""Every error that codiff-batch raises on purpose, as one tree.

``CodiffError`` is the root, so callers can catch the whole tree with one name. Every class knows the exit code it means
for a command and which options help, as data, so that each front door can say so in its own words::

    CodiffError
    ├── PhotoError            something is wrong with one photo; a batch goes on
    │   ├── NotJpeg               the file is empty or another format
    │   ├── DamagedJpeg           the file breaks the JPEG standard or ends early
    │   ├── UnsupportedJpeg       a valid JPEG of a kind that is not handled
    │   ├── DamagedPicture        a picture of another format that cannot be read
    │   ├── UnsupportedPicture    one that would lose something
    │   ├── TooManyPixels         over the pixel limit, refused before decoding
    │   ├── TooManyBytes          over the limit on file size, refused before reading
    │   ├── TookTooLong           given up by the time limit on a photo
    │   ├── OutputExists          an earlier output stands in the way
    │   ├── SourceChanged         the photo is not what it was when it was read
    │   ├── SourceIsLink          a link cannot be restored in place
    │   ├── BackupUnfit           the backup is not the original
    │   ├── Collision             the output would take the place of another photo's
    │   ├── CannotRecord          the journal cannot be written
    │   └── RestoreFailed         the network gave no usable picture
    ├── ModelError            a model cannot be used
    │   ├── ModelNotFound         no model of that name
    │   ├── ModelDamaged          a file is missing, changed or malformed
    │   └── CannotInstall         a model's files cannot be obtained, or are not what they should be
    ├── DeviceUnavailable     the asked-for device is not on this machine
    ├── FolderUnavailable     an output or backup folder cannot be used at all
    │   ├── FolderLocked          another run is using it
    │   ├── JournalDamaged        its journal is broken
    │   └── JournalNewer          a later version of this program keeps it
    ├── OptionsConflict       options that contradict each other
    │   └── SettingRefused        a setting is out of range, or not for this model
    ├── CannotCompare         pictures to compare cannot be read, or differ in size
    ├── RequestRefused        a host program's request cannot be understood or followed
    └── Cancelled             a host program cancelled its request, or is gone
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from codiff_batch.exit_codes import ExitCode


class Role(StrEnum):
    """What an option is for, whatever a front door calls it.

    An error names the options that help by these; the command line knows its own names for them
    (``cli/remedies.py``), and other front doors say it in the words of their controls, or leave it out.
    """

    BACKUP = "the folder of untouched originals"
    BASE_MODEL = "the base of a model that is installed"
    BYTE_LIMIT = "the largest file in bytes"
    CLUSTER = "other machines that share the work"
    CONSTRAIN = "keep the result inside the quantization cells"
    COPY_SKIPPED = "copy what is skipped"
    DEVICES = "where the networks run"
    FORMAT = "format of the outputs"
    GIMP_FOLDER = "GIMP's user folder"
    IN_PLACE = "replace the photos themselves"
    INCLUDE_SIGNED = "restore signed photos too"
    MODEL = "the model to use"
    MODEL_NAME = "the name that a model is installed under"
    NEW_FOLDER = "start an empty folder where earlier runs kept theirs"
    OUTPUT = "the output folder"
    OVERWRITE = "replace outputs that exist"
    PIXEL_LIMIT = "the largest photo in pixels"
    REPLACE_MODEL = "replace a model that is installed"
    REPORT = "where the report goes"
    TYPES = "kinds of files that are taken"
    TIME_LIMIT = "the longest a photo may take"
    TEXTURE = "how much texture a model adds"


class CodiffError(Exception):
    """Root of all errors raised on purpose; the message is one line a person can read, at any front door."""

    exit_code: ClassVar[ExitCode] = ExitCode.SOME_FAILED
    """How a command ends that ends with this error."""
    remedies: tuple[Role, ...] = ()
    """The options that help; the class's, unless an error names its own."""

    def __init__(self, message: str = "", *remedies: Role) -> None:
        super().__init__(message)
        if remedies:
            self.remedies = remedies


class PhotoError(CodiffError):
    """One photo cannot be handled; other photos are not affected."""


class NotJpeg(PhotoError):
    """The file is not a JPEG at all, whatever its name says."""


class DamagedJpeg(PhotoError):
    """The file starts as a JPEG but is truncated or breaks the standard."""


class UnsupportedJpeg(PhotoError):
    """A valid JPEG of a kind that is refused, such as CMYK, 12-bit or lossless."""


class DamagedPicture(PhotoError):
    """A PNG, BMP, TIFF or WebP that cannot be read."""


class UnsupportedPicture(PhotoError):
    """A valid picture of a kind that is refused, such as 16 bits, a palette, transparency or several pages."""


class TooManyPixels(PhotoError):
    """The header announces more pixels than the limit allows."""

    remedies = (Role.PIXEL_LIMIT,)


class TooManyBytes(PhotoError):
    """The file is larger than the limit allows."""

    remedies = (Role.BYTE_LIMIT,)


class TookTooLong(PhotoError):
    """The photo was worked on for longer than the limit allows."""

    remedies = (Role.TIME_LIMIT,)


class OutputExists(PhotoError):
    """The output file exists and overwriting was not asked for."""

    remedies = (Role.OVERWRITE,)


class SourceChanged(PhotoError):
    """The photo changed while it was worked on, or since."""


class SourceIsLink(PhotoError):
    """A link, or one of several names of a file, cannot be restored in place."""


class BackupUnfit(PhotoError):
    """What lies in the backup folder is not this photo's original, so the photo may not be replaced."""


class Collision(PhotoError):
    """The output would take the place of another photo's."""


class CannotRecord(PhotoError):
    """The journal cannot be written, so nothing may be."""


class RestoreFailed(PhotoError):
    """The network returned values that are not a picture (NaN or a wrong size)."""


class ModelError(CodiffError):
    """A model cannot be used."""

    exit_code = ExitCode.UNAVAILABLE


class ModelNotFound(ModelError):
    """No bundled or installed model has this name."""


class ModelDamaged(ModelError):
    """A model folder lacks a file, or a file differs from its recorded checksum."""


class CannotInstall(ModelError):
    """A model cannot be installed: a file is missing, of another kind, or out of reach."""


class DeviceUnavailable(CodiffError):
    """The device that was asked for is not on this machine."""

    exit_code = ExitCode.UNAVAILABLE
    remedies = (Role.DEVICES,)


class FolderUnavailable(CodiffError):
    """An output or backup folder cannot be written to, or holds no journal where one is needed."""

    exit_code = ExitCode.UNAVAILABLE


class FolderLocked(FolderUnavailable):
    """Another run or daemon is using the same output folder."""

    exit_code = ExitCode.LOCKED


class JournalDamaged(FolderUnavailable):
    """The journal of a folder is broken, or is none."""


class JournalNewer(FolderUnavailable):
    """The journal of a folder was written by a later version of this program."""


class OptionsConflict(CodiffError):
    """Two options contradict each other."""

    exit_code = ExitCode.USAGE


class SettingRefused(OptionsConflict, ValueError):
    """A setting is out of range, or the model has no use for it.

    Attributes:
        setting: its name.
    """

    def __init__(self, setting: str, sentence: str) -> None:
        super().__init__(sentence)
        self.setting, self.sentence = setting, sentence
        self.args = setting, sentence  # So that it travels to another process.

    def __str__(self) -> str:
        return self.sentence


class CannotCompare(CodiffError):
    """The pictures cannot be read, or are not of one size."""


class RequestRefused(CodiffError):
    """A request of a host program that cannot be understood or followed."""


class Cancelled(CodiffError):
    """The host program cancelled its request, or is gone."""
