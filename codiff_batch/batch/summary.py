"""Text that came from a file or a name, made fit for any terminal or log."""

SHOWN_FAILURES = 10
"""Failures that a summary lists one by one."""


def printable(text: str) -> str:
    """A file name on one line that any terminal can take: control characters and lone bytes are escaped."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return escaped.encode("utf-8", "backslashreplace").decode()
