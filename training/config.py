"""Reads the settings of a stage from a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from training.recipe import Recipe

Config = TypeVar("Config")


def read_config(path: Path, kind: type[Config]) -> Config:
    """Read a TOML file into a dataclass; unknown names are an error, missing ones get their default."""
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{path}: unknown setting {', '.join(unknown)}; known are {', '.join(known)}")
    if "recipe" in values:
        values["recipe"] = Recipe(**values["recipe"])
    return kind(**values)
