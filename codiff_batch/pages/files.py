"""A page's files: its template with the parts shared by all pages, and its pictures."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
import urllib.parse
from importlib.resources import files
from pathlib import Path
from typing import Any

from codiff_batch.errors import OptionsConflict
from codiff_batch.files.text import printable

_PARTS = re.compile(r"@PARTS ([^@]+)@")
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def render(name: str, made: str, data: Any) -> str:
    """A page of the package, complete in itself.

    ``@PARTS a.css b.css@`` in the template becomes the text of these parts, ``@MADE@`` a line on how the page was
    made, ``@DATA@`` JSON, ``@POLICY@`` a policy that lets the browser run only the page's own script and forbids the
    network.
    """
    page = _PARTS.sub(lambda parts: "\n".join(_text(part) for part in parts[1].split()), _text(name))
    scripts = " ".join(f"'sha256-{_sha256(script)}'" for script in _SCRIPT.findall(page))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src 'self' file: data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # Inside a script element, only "</" could end it and "<!--" change its meaning.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    values = {"@POLICY@": policy, "@MADE@": made, "@DATA@": text}
    return re.sub("|".join(values), lambda found: values[found[0]], page)


def shown(text: str | Path) -> str:
    """Text from a file or a name in a form safe to show: control characters and lone bytes are escaped."""
    return printable(str(text))


def check_page_path(option: str, page: Path) -> None:
    """Refuse a page early if it could not be written after long work.

    Raises:
        OptionsConflict: the name does not end in .html, or the place cannot be written to.
    """
    if page.suffix.lower() != ".html":
        raise OptionsConflict(f"{option} {shown(page.name)}: the name must end in .html")
    folder = page.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent  # missing folders are created
    try:
        if page.is_dir():
            raise IsADirectoryError(None, "is a folder")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OptionsConflict(f"{option} {shown(page)}: cannot be written: {error.strerror or error}") from error


def folder_beside(page: Path) -> Path:
    """The folder for a page's pictures."""
    return page.with_name(f"{page.stem}-files")


def address(folder: Path, name: str) -> str:
    """How the page addresses a picture in that folder."""
    return f"{urllib.parse.quote(os.fsencode(folder.name))}/{name}"


def link(page: Path, target: Path) -> str:
    """A photo's address relative to the page, so that both can move together."""
    try:
        relative = Path(os.path.relpath(target.absolute(), page.absolute().parent)).as_posix()
    except ValueError:  # another drive
        return target.absolute().as_uri()
    return urllib.parse.quote(os.fsencode(relative))


def _text(name: str) -> str:
    return files("codiff_batch.pages").joinpath(name).read_text("utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
