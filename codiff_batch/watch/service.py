"""Notifies systemd if it started the daemon: ready, alive, stopping."""

from __future__ import annotations

import logging
import os
import time

log = logging.getLogger(__name__)

PING_SECONDS = 2.0


class Service:
    """The notification socket of a ``Type=notify`` unit; does nothing outside systemd."""

    def __init__(self) -> None:
        self._notifier = None
        self._pinged = 0.0
        if "NOTIFY_SOCKET" in os.environ:
            try:
                from sdnotify import SystemdNotifier

                self._notifier = SystemdNotifier()
            except ImportError:
                log.warning("systemd expects notifications, which need: pip install 'codiff-batch[systemd]'")

    def say(self, message: str) -> None:
        """Send one of systemd's own messages, such as ``READY=1``."""
        if self._notifier is not None:
            self._notifier.notify(message)

    def ping(self) -> None:
        """Report that the daemon is alive; cheap enough for inner loops."""
        if time.monotonic() - self._pinged > PING_SECONDS:
            self._pinged = time.monotonic()
            self.say("WATCHDOG=1")
