"""Text that came from a file or a name, made fit for terminals and logs."""

from __future__ import annotations


def printable(text: str) -> str:
    """A text on one line that any terminal can take: control characters and lone bytes are escaped."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return escaped.encode("utf-8", "backslashreplace").decode()
