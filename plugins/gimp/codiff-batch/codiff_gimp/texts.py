"""Words for the user, in the language of their GIMP."""

from __future__ import annotations

from pathlib import Path

import gi

gi.require_version("Gimp", "3.0")
from gi.repository import Gimp, GLib  # noqa: E402

DOMAIN = "codiff-batch"
FOLDER = Path(__file__).resolve().parent.parent
"""The plug-in's folder, with its catalogues in ``locale`` and its pages in ``help``."""


class Refused(Exception):
    """Something that the user can fix; the text is for them."""


def _(text: str) -> str:
    """Translate, by the catalogue that GIMP bound for this plug-in."""
    return GLib.dgettext(DOMAIN, text)


def N_(text: str) -> str:  # noqa: N802 (gettext's own name)
    """Mark a text for the catalogue that is translated later."""
    return text


def done(succeeded: bool, sentence: str) -> None:
    """Check what a call of GIMP's procedure database returned.

    Raises:
        Refused: GIMP would not do it; with the sentence and GIMP's own reason.
    """
    if not succeeded:
        raise Refused(f"{sentence} {Gimp.get_pdb().get_last_error() or ''}".strip())
