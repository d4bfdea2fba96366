"""Plain values from untrusted files: types are checked and sizes bounded before use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from codiff_batch.errors import PhotoError
from codiff_batch.files.reading import read_whole

Kind = TypeVar("Kind")

LARGEST_TEXT = 1 << 20
"""Bytes of a card or a settings file; real ones have a few thousand."""

LARGEST_NUMBER = 16_384
"""In the settings of a network: no layer is wider, no picture's side longer."""

DEEPEST = 64
"""Layers of one kind; each costs time to build, whatever its weights."""

MOST_LAYERS = 512
"""Of all kinds together in one network: the largest that is known has 24."""

_COUNTS = ("depth", "layers", "blocks")


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """Read a JSON file as a value of a type; fields that the type does not know are ignored.

    Raises:
        ValueError: it cannot be read, is not JSON, or a value in it has the wrong type; one line.
    """
    try:
        return msgspec.json.decode(read_whole(path, max_bytes=LARGEST_TEXT).data, type=kind)
    except PhotoError as error:
        raise ValueError(str(error)) from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{error or 'nested too deeply'}") from error


def is_nested_deeper(value: Any, levels: int) -> bool:
    """Return True if a value has more than so many levels of lists and mappings within each other."""
    within = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels < 0 or any(is_nested_deeper(part, levels - 1) for part in within)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse network settings that would need unbounded memory or time.

    Raises:
        ValueError: with the name of the setting.
    """
    _check_mapping("sizes", settings, 0)


def _check_mapping(title: str, settings: Mapping[str, Any], depth: int) -> None:
    layers = longest = 1
    for name, value in settings.items():
        counts = any(part in name for part in _COUNTS) and "channels" not in name
        _check(str(name), value, DEEPEST if counts else LARGEST_NUMBER, depth)
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        longest = max(longest, len(values))
        if counts:
            layers *= max([1, *(int(one) for one in values if isinstance(one, int | float))])
    if layers * longest > MOST_LAYERS:
        raise ValueError(f"{title} asks for {layers * longest} layers, more than {MOST_LAYERS}")


def _check(name: str, value: Any, largest: int, depth: int) -> None:
    if isinstance(value, Mapping):
        if len(value) > DEEPEST or depth > 4:
            raise ValueError(f"{name} has {len(value)} settings")
        _check_mapping(name, value, depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) > DEEPEST or depth > 4:
            raise ValueError(f"{name} is a list of {len(value)}")
        for part in value:
            _check(name, part, largest, depth + 1)
    elif isinstance(value, int | float) and not abs(value) <= largest:
        raise ValueError(f"{name} is {value}, more than {largest}")
    elif isinstance(value, str) and len(value) > 1000:
        raise ValueError(f"{name} is a text of {len(value)} characters")
