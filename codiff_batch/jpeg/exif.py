"""EXIF blocks: a bounded reader, and edits that move nothing (EXIF 2.32; TIFF 6.0, section 2).

No library is safe here. piexif and Pillow believe a count of four billion and take gigabytes for a file of 3 KB; both
move maker notes, whose inner offsets then become invalid, and drop what they do not know. So every count is checked
against the block before anything is read, and an edit leaves each value where it is: a removed entry is taken out of
its directory, and directories that grow are rewritten after the block.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
"""Bytes of one value by field type; 129 is UTF-8 of EXIF 3."""

ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 2, 3, 4, 5, 7

PROCESSING_SOFTWARE, DESCRIPTION, MODEL, ORIENTATION = 0x000B, 0x010E, 0x0110, 0x0112
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, SOFTWARE = 0x011A, 0x011B, 0x0128, 0x0131
TAKEN = 0x9003
THUMBNAIL, THUMBNAIL_LENGTH = 0x0201, 0x0202
_CHILDREN = (("0th", 0x8769, "Exif"), ("0th", 0x8825, "GPS"), ("Exif", 0xA005, "Interop"))
"""A directory, the field in it that points to another one, and the name of that one."""
_ORDER = ("0th", "Exif", "GPS", "Interop", "1st")
"""Parents before their children."""

EMPTY = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
"""A block with an empty directory."""


@dataclass(frozen=True)
class Entry:
    """One field of a directory; its value lies at ``start``, ``size`` bytes of the block."""

    tag: int
    type: int
    count: int
    raw: bytes
    """The twelve bytes of the directory."""
    start: int
    size: int


@dataclass(frozen=True)
class Field:
    """A field to be added."""

    tag: int
    type: int
    count: int
    value: bytes


@dataclass(frozen=True)
class Directory:
    """One image file directory: its readable entries, and where it is."""

    at: int
    entries: tuple[Entry, ...]
    following: int
    """Offset of the next directory, 0 for none."""


@dataclass(frozen=True)
class Exif:
    """A block whose first directory can be read; fields whose values are outside the block are ignored."""

    block: bytes
    order: str
    """``<`` or ``>``, as for :mod:`struct`."""
    directories: Mapping[str, Directory]
    """``0th`` always; ``1st`` (the thumbnail), ``Exif``, ``GPS`` and ``Interop`` where they can be read."""

    @classmethod
    def read(cls, block: bytes | None) -> Exif | None:
        """Read a TIFF block; None if there is nothing that can be read."""
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4]) if block else None
        if block is None or order is None or len(block) < 8:
            return None
        first = _read_directory(block, order, struct.unpack_from(order + "I", block, 4)[0])
        if first is None:
            return None
        directories = {"0th": first}
        exif = cls(block, order, directories)
        for parent, tag, name in _CHILDREN:
            if (offset := exif.number(parent, tag)) and (found := _read_directory(block, order, offset)):
                directories[name] = found
        if second := _read_directory(block, order, first.following):
            directories["1st"] = second
        return exif

    def find(self, directory: str, tag: int) -> Entry | None:
        """The first field of this tag."""
        found = self.directories.get(directory)
        return next((e for e in found.entries if e.tag == tag), None) if found else None

    def value(self, directory: str, tag: int) -> bytes | None:
        """A field's bytes."""
        entry = self.find(directory, tag)
        return None if entry is None else self.block[entry.start : entry.start + entry.size]

    def number(self, directory: str, tag: int) -> int | None:
        """The first whole number of a field."""
        entry, value = self.find(directory, tag), self.value(directory, tag)
        kind = {1: "B", 3: "H", 4: "I", 13: "I"}.get(entry.type) if entry else None
        return int(struct.unpack_from(self.order + kind, value)[0]) if kind and value else None

    def ratio(self, directory: str, tag: int) -> float | None:
        """The first ratio of a field; None also if it is not a positive number."""
        entry, value = self.find(directory, tag), self.value(directory, tag)
        if entry is None or value is None or entry.type != RATIONAL or len(value) < 8:
            return None
        above, below = struct.unpack_from(self.order + "II", value)
        return above / below if above and below else None

    def text(self, directory: str, tag: int) -> str | None:
        """A text field, up to its first NUL; None where it is empty."""
        value = self.value(directory, tag)
        return None if value is None else value.split(b"\0")[0].decode("utf-8", "replace").strip() or None

    def thumbnail(self) -> tuple[int, int] | None:
        """Start and length of the embedded JPEG thumbnail in the block."""
        start, length = (self.number("1st", tag) for tag in (THUMBNAIL, THUMBNAIL_LENGTH))
        return (start, length) if start and length and start + length <= len(self.block) else None

    def without(self, unwanted: Callable[[str, Entry], bool]) -> bytes:
        """The block with entries taken out of their directories; nothing else moves.

        Entries whose values would be outside the block are removed too, as other programs would read whatever is there,
        and so are pointers to directories that do not exist or would be empty, which TIFF forbids.
        """
        changed, left = bytearray(self.block), dict[str, int]()
        for name in reversed(_ORDER):
            if (directory := self.directories.get(name)) is None:
                continue
            gone = {tag for parent, tag, child in _CHILDREN if parent == name and not left.get(child)}
            kept = [e.raw for e in directory.entries if e.tag not in gone and not unwanted(name, e)]
            left[name] = len(kept)
            following = directory.following if name != "0th" or left.get("1st") else 0
            body = struct.pack(self.order + "H", len(kept)) + b"".join(kept) + struct.pack(self.order + "I", following)
            changed[directory.at : directory.at + len(body)] = body
        return bytes(changed)


def with_fields(block: bytes, fields: Iterable[Field], *, keep_following: bool = True) -> bytes:
    """The block followed by a new first directory: the old entries and these fields, which override equal tags.

    Args:
        block: readable, see :meth:`Exif.read`.
        fields: numbers in the block's byte order.
        keep_following: whether the thumbnail's directory still follows.

    Raises:
        ValueError: the block cannot be read, or the result would pass 4 GiB.
    """
    exif = Exif.read(block)
    if exif is None:
        raise ValueError("not an EXIF block")
    added = {field.tag: field for field in fields}
    raw = {entry.tag: entry.raw for entry in exif.directories["0th"].entries}
    parts, end = [block], len(block)
    for field in added.values():
        value = field.value.ljust(4, b"\0")
        if len(value) > 4:
            end += end % 2
            parts += [b"\0" * (end - sum(map(len, parts))), value]
            value = struct.pack(exif.order + "I", end)
            end += len(parts[-1])
        raw[field.tag] = struct.pack(exif.order + "HHI", field.tag, field.type, field.count) + value
    padding = b"\0" * (end % 2)
    if end + 6 + 12 * len(raw) >= 1 << 32:
        raise ValueError("more than 4 GiB")
    directory = struct.pack(exif.order + "H", len(raw)) + b"".join(raw[tag] for tag in sorted(raw))
    following = exif.directories["0th"].following if keep_following else 0
    whole = b"".join([*parts, padding, directory, struct.pack(exif.order + "I", following)])
    return whole[:4] + struct.pack(exif.order + "I", end + len(padding)) + whole[8:]


def _read_directory(block: bytes, order: str, at: int) -> Directory | None:
    """Read the directory at an offset; None if it is not inside the block."""
    if not 8 <= at <= len(block) - 2:
        return None
    (count,) = struct.unpack_from(order + "H", block, at)
    end = at + 2 + 12 * count
    if end > len(block):
        return None
    following = struct.unpack_from(order + "I", block, end)[0] if end + 4 <= len(block) else 0
    return Directory(at, tuple(_read_entries(block, order, at + 2, count)), following)


def _read_entries(block: bytes, order: str, at: int, count: int) -> Iterator[Entry]:
    for position in range(at, at + 12 * count, 12):
        tag, kind, number, offset = struct.unpack_from(order + "HHII", block, position)
        size = _SIZES.get(kind, 0) * number
        start = position + 8 if size <= 4 else offset
        if kind in _SIZES and start + size <= len(block):
            yield Entry(tag, kind, number, block[position : position + 12], start, size)
