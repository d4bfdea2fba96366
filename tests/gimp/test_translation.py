"""The plug-in's texts: every one is in each catalogue, and the keys that are underlined are each used once."""

from __future__ import annotations

import ast
import gettext
import re
import shutil
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "plugins/gimp/codiff-batch"
LANGUAGES = sorted(path.name for path in (PLUGIN / "locale").iterdir())
NOT_SHOWN = {"JPEG _file"}
"""For scripts alone."""
BUTTONS = {"en": "hrcols", "de": "hzcogs"}
"""What GIMP's own buttons in the dialog underline: Help, Reset, Cancel, OK, Load and Save Settings."""


def catalogue(language: str) -> dict[str, str]:
    with (PLUGIN / f"locale/{language}/LC_MESSAGES/codiff-batch.mo").open("rb") as file:
        return {key: value for key, value in gettext.GNUTranslations(file)._catalog.items() if key}


def marked() -> Iterator[str]:
    """Texts in calls of ``_`` and ``N_``."""
    for path in [PLUGIN / "codiff-batch.py", *(PLUGIN / "codiff_gimp").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "N_"):
                (text,) = node.args
                if isinstance(text, ast.Constant):
                    yield text.value


def fields(text: str) -> list[str | None]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


def test_there_is_german() -> None:
    assert "de" in LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_has_every_text_and_no_other(language: str) -> None:
    translated = catalogue(language)
    assert set(translated) == set(marked())
    for text, translation in translated.items():
        assert translation, text
        assert fields(translation) == fields(text)
        assert ("_" in translation) == ("_" in text), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_catalogue_is_the_written_one(language: str, tmp_path: Path) -> None:
    if shutil.which("msgfmt") is None:
        pytest.skip("needs msgfmt: Debian's gettext")
    folder = PLUGIN / f"locale/{language}/LC_MESSAGES"
    subprocess.run(["msgfmt", "--check-format", folder / "codiff-batch.po", "-o", tmp_path / "fresh.mo"], check=True)
    with (tmp_path / "fresh.mo").open("rb") as file:
        fresh = gettext.GNUTranslations(file)._catalog
    assert {key: value for key, value in fresh.items() if key} == catalogue(language)


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_each_underlined_key_of_the_dialog_is_used_once(language: str) -> None:
    translated = {text: text for text in marked()} if language == "en" else catalogue(language)
    labels = [translated[text] for text in set(marked()) - NOT_SHOWN if re.search(r"_\w", text)]
    in_dialog = [label for label in labels if "…" not in label]  # the menu's entry is elsewhere
    keys = [label[label.index("_") + 1].lower() for label in in_dialog]
    assert len(keys) == 11
    assert len(set(keys)) == len(keys), sorted(keys)
    assert not set(keys) & set(BUTTONS.get(language, ""))


def test_each_language_has_its_help_page() -> None:
    assert {path.stem for path in (PLUGIN / "help").glob("*.html")} == {"en", *LANGUAGES}
