"""Ranges and defaults of codiff-batch's settings, which GIMP wants to know before any engine runs.

tests/gimp keeps them in step with ``codiff_batch/settings.py``.
"""

RANGES = {"strength": (0.0, 1.0, 1.0), "texture": (0.0, 1.0, 0.7), "qf": (1.0, 100.0, None)}
"""Lowest, highest, default by name; None is for one that is off unless a number is given."""
SWITCHES = {"constrain": True}
"""Defaults by name."""
PRECISIONS = ("auto", "fp32", "bf16")
DEFAULT_MODEL = "compact"
OFF = 0.0
"""What GIMP, whose numbers are always there, says for None."""
