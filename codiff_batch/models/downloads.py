"""Checks that a download is what it should be. No torch here, so that fetching starts at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from codiff_batch.errors import CannotInstall
from codiff_batch.files.opening import open_regular
from codiff_batch.models.plain import check_settings, read_json

_WEB_PAGE_STARTS = (b"<!doctype", b"<html", b"<head", b"<?xml")


def check_base(base: Path) -> None:
    """Check that a folder is Stable Diffusion 2.1-base, and not the 768-pixel model of nearly the same name.

    Raises:
        CannotInstall: with what is wrong.
    """
    settings: dict[str, dict[str, Any]] = {}
    for part, name in (("unet", "config.json"), ("vae", "config.json"), ("scheduler", "scheduler_config.json")):
        file = base / part / name
        if not os.path.lexists(file):
            raise CannotInstall(f"{base} is not a base model: it has no {part}/{name}")
        try:
            settings[part] = read_json(file, dict[str, Any])
            check_settings({key: value for key, value in settings[part].items() if part != "scheduler"})
        except ValueError as error:
            raise CannotInstall(f"{file}: {error}") from error
    prediction, side = settings["scheduler"].get("prediction_type", "epsilon"), settings["unet"].get("sample_size")
    if prediction != "epsilon" or side != 64:
        raise CannotInstall(
            f"{base} is not Stable Diffusion 2.1-base but a relative of it (it predicts {prediction!r} at sample size "
            f"{side!r}, not 'epsilon' at 64); the 768-pixel model is often found under this name"
        )


def refuse_web_page(file: Path) -> None:
    """Refuse a web page saved in place of a file, as download sites serve when they want another click.

    Raises:
        CannotInstall: it is one, or cannot be read.
    """
    try:
        with open_regular(file) as opened:
            start = opened.read(256).lstrip().lower()
    except OSError as error:
        raise CannotInstall(f"{file} cannot be read: {error.strerror or error}") from error
    if start.startswith(_WEB_PAGE_STARTS):
        raise CannotInstall(f"{file} is a web page, not the file itself: open the link in a browser and download it")
