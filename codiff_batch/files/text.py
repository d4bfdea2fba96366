"""Text from a file or a name, made safe for terminals, logs and tables."""

from __future__ import annotations

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """A text on one line that any terminal can take: control characters and lone bytes are escaped."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return escaped.encode("utf-8", "backslashreplace").decode()


def no_formula(text: str) -> str:
    """A text that a spreadsheet shows rather than computes: with the apostrophe that spreadsheets use for this."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
