"""Runs the program as a user would, in this process."""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from codiff_batch.cli.main import main
from tests import warm

# Before torch is imported, here and in what tests start: several processes at once, so a thread for each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # without helpers that each import torch
warm.announce()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One a core, and one for the slow tests that wait for a clock; with more, caches are shared by too many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(12, cores if _only_quick(config) else cores + 1)


def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Have programs start quickly from the first test on that is not a quick one."""
    if not _only_quick(config):
        threading.Thread(target=warm.program, daemon=True).start()


def _only_quick(config: pytest.Config) -> bool:
    return bool(config.option.markexpr.startswith("not slow"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Begin with a part of the modules in each process, so that the others find them compiled: that is slow."""
    config = session.config
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if number and config.args == config.getini("testpaths"):
        modules = sorted(Path(__file__).parent.rglob("test_*.py"))
        for module in modules[int(number) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]:
            with contextlib.suppress(Exception, pytest.skip.Exception):  # told when it is collected
                importlib.import_module(".".join(module.relative_to(config.rootpath).with_suffix("").parts))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all tests of a host program to one process, so that it is started once, and begin with the slowest tests.

    The quick ones then fill what would otherwise be a wait for the last slow one.
    """
    hosts = Path(__file__).parent / "hosts"
    for item in items:
        if hosts in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(item.path.parent.name))
    items.sort(key=lambda item: (hosts in item.path.parents, _seconds(item)), reverse=True)


def _seconds(item: pytest.Item) -> float:
    """About how long a test takes, as far as its marker tells."""
    slow = item.get_closest_marker("slow")
    return 0 if slow is None else slow.kwargs.get("seconds", 1)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    _spare_what_was_imported()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    _spare_what_was_imported()


_spared = 0


def _spare_what_was_imported() -> None:
    """Leave torch, its like and thousands of tests out of garbage collections, and have fewer of them.

    Some tests need collections by the dozen.
    """
    global _spared
    if len(sys.modules) > _spared + 200:
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        _spared = len(sys.modules)


@pytest.fixture(autouse=True)
def logs_are_heard() -> Iterator[None]:
    """The daemon, run in this process, keeps its log to itself; the next test listens again."""
    yield
    log = logging.getLogger("codiff_batch")
    log.propagate = True
    log.handlers.clear()
    if log.level != logging.NOTSET:  # setting it makes all loggers forget what they know
        log.setLevel(logging.NOTSET)


class Ran(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders that are not there yet. A ``mktemp`` for each test would look through those of all tests before it."""
    folder = tmp_path_factory.mktemp("states")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def state_of_its_own(states: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program remembers of a user's folders is not the developer's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(next(states)))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Call the program with arguments."""

    def call(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments], prog_name="codiff-batch")
        return Ran(int(ended.value.code or 0), *capsys.readouterr())

    return call
