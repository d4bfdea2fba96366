"""What the command line's summaries and ``status`` have in common."""

SHOWN_FAILURES = 10
"""Failures that a summary lists one by one."""
