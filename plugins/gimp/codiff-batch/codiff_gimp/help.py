"""The plug-in's own page, in the user's language where there is one."""

from __future__ import annotations

from pathlib import Path

from gi.repository import Gio, GLib

from codiff_gimp.texts import FOLDER, Refused, _


def page() -> Path:
    """The page in the first of the user's languages that has one, else in English."""
    pages = FOLDER / "help"
    for language in GLib.get_language_names():
        found = pages / f"{language}.html"
        if found.is_file():
            return found
    return pages / "en.html"


def open_page() -> None:
    """Show the page in the user's browser.

    Raises:
        Refused: there is no browser; names the file.
    """
    try:
        Gio.AppInfo.launch_default_for_uri(page().as_uri(), None)
    except GLib.Error as error:
        raise Refused(
            _("Cannot open {page} in a browser: {reason}").format(page=page(), reason=error.message)
        ) from None
