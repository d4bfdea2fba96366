"""What the daemon tells people, programs and systemd."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.watch.logs import log_outcome, start_log
from codiff_batch.watch.service import PING_SECONDS, Service

RESTORED = Outcome(Path("a\n\udcff.jpg"), Path("out/a.jpg"), Kind.RESTORED, "blocky", "low-qf", header_qf=20)
FAILED = Outcome(Path("b.jpg"), None, Kind.FAILED, "torn", "photo-error")


def test_programs_get_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    start_log(as_json=True, verbose=False)
    log_outcome(RESTORED)
    log_outcome(FAILED)
    try:
        raise ValueError("a bug")
    except ValueError:
        logging.getLogger("codiff_batch.any").exception("it \x1b[31m happened")
    logging.getLogger("codiff_batch.any").debug("a detail")
    restored, failed, error = map(json.loads, capsys.readouterr().err.splitlines())
    assert (restored["level"], failed["level"], error["level"]) == ("info", "warning", "error")
    assert (restored["source"], restored["output"], restored["outcome"]) == ("a\n\udcff.jpg", "out/a.jpg", "restored")
    assert (restored["reason"], restored["code"], restored["header_qf"]) == ("blocky", "low-qf", 20)
    assert failed["message"] == "failed: b.jpg: torn" and failed["output"] is None
    assert error["error"].endswith("ValueError: a bug") and "error" not in restored


def test_people_get_a_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    start_log(as_json=False, verbose=True)
    log_outcome(RESTORED)
    logging.getLogger("codiff_batch.any").debug("a detail")
    first, second = capsys.readouterr().err.splitlines()
    assert first[19:].isprintable() and first[19:].startswith(" restored: a") and first.endswith(".jpg: blocky")
    assert second[19:] == " a detail"


def test_the_log_goes_to_one_place_only(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        start_log(as_json=False, verbose=False)
    log_outcome(FAILED)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not caplog.messages


class Heard(Service):
    """A service whose words are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def say(self, message: str) -> None:
        super().say(message)
        self.heard.append(message)


def test_systemd_is_told_now_and_then_that_the_daemon_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=1000.0)
    monkeypatch.setattr("codiff_batch.watch.service.time", clock)
    service = Heard()
    for _ in range(100):
        service.ping()
    assert service.heard == ["WATCHDOG=1"]
    clock.now += PING_SECONDS + 0.1
    service.ping()
    service.ping()
    assert service.heard == 2 * ["WATCHDOG=1"]


def test_without_the_package_for_systemd_that_is_said_and_nothing_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setitem(sys.modules, "sdnotify", None)
    service = Service()
    service.say("READY=1")
    assert "codiff-batch[systemd]" in caplog.text
