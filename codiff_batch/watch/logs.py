"""The daemon's log, for people or for programs; one line per event in both cases."""

from __future__ import annotations

import json
import logging
import sys
import time

from codiff_batch.batch.outcome import Outcome
from codiff_batch.files.text import printable

log = logging.getLogger("codiff_batch.watch")


class JsonFormatter(logging.Formatter):
    """One JSON object per line, ASCII only, so that no file name can break it."""

    def format(self, record: logging.LogRecord) -> str:
        """Turn a record into its line."""
        values = {"time": time.time(), "level": record.levelname.lower(), "message": record.getMessage()}
        values |= getattr(record, "values", {})
        if record.exc_info:
            values["error"] = self.formatException(record.exc_info)
        return json.dumps(values)


class PlainFormatter(logging.Formatter):
    """Time and message, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Turn a record into its line."""
        return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(super().format(record))}"


def start_log(*, as_json: bool, verbose: bool) -> None:
    """Send the log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else PlainFormatter("%(message)s"))
    root = logging.getLogger("codiff_batch")
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    root.propagate = False


def log_outcome(outcome: Outcome) -> None:
    """Log one line for a photo."""
    values = {
        "outcome": outcome.outcome,
        "source": str(outcome.source),
        "output": None if outcome.output is None else str(outcome.output),
        "reason": outcome.reason,
        "code": outcome.code,
        "header_qf": outcome.header_qf,
        "estimated_qf": outcome.estimated_qf,
        "seconds": outcome.seconds,
    }
    level = logging.WARNING if outcome.outcome == "failed" else logging.INFO
    log.log(level, "%s: %s: %s", outcome.outcome, outcome.source, outcome.reason, extra={"values": values})
