"""A GIMP with the plug-in in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.gimp.client import Gimp
from tests.hosts.gimp.get_gimp import get_gimp
from tests.hosts.gimp.screen import NEEDED, Screen


@pytest.fixture(scope="session")
def gimp_root(hosts: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root can unpack a GIMP and change into its file system")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mounts of one's own, which GIMP's file system needs")
    if shutil.which("mmdebstrap") is None and not (hosts / "gimp/done").exists():
        pytest.skip("getting a GIMP needs Debian's mmdebstrap")
    return get_gimp(hosts / "gimp")


@pytest.fixture(scope="session")
def screen() -> Iterator[Screen]:
    if missing := [program for program in NEEDED if shutil.which(program) is None]:
        pytest.skip(f"needs {', '.join(missing)}: Debian's xvfb, openbox, xdotool and imagemagick")
    with Screen() as screen:
        yield screen


@pytest.fixture(scope="session")
def running(gimp_root: Path, screen: Screen, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gimp]:
    """A GIMP in a window with the plug-in, which most tests share, since it takes long to start.

    Its engine is started by a script of ours, so that tests can put another in its place.
    """
    gimp = Gimp(gimp_root, tmp_path_factory.mktemp("gimp"))
    installed = gimp.command_line("install")
    assert installed.returncode == 0, installed.stderr
    (gimp.user / "environ/codiff-batch.env").write_text(f"CODIFF_PYTHON={gimp.folder}/python\n")
    gimp.use_engine()
    gimp.open(screen)
    yield gimp
    gimp.kill()
    gimp.wait_for_engines_end()
    assert not gimp.remains()
    assert not gimp.engines()


@pytest.fixture
def gimp(running: Gimp) -> Iterator[Gimp]:
    """The running GIMP, with no image open."""
    yield running
    running.use_engine()
    running.run("close_all()")
