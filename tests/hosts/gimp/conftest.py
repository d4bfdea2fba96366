"""A GIMP with the plug-in in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.hosts.gimp.client import Gimp
from tests.hosts.gimp.get_gimp import get_gimp


@pytest.fixture(scope="session")
def gimp_root(hosts: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root can unpack a GIMP and change into its file system")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mounts of one's own, which GIMP's file system needs")
    if shutil.which("mmdebstrap") is None and not (hosts / "gimp/done").exists():
        pytest.skip("getting a GIMP needs Debian's mmdebstrap")
    return get_gimp(hosts / "gimp")


@pytest.fixture
def bare_gimp(gimp_root: Path, tmp_path: Path) -> Gimp:
    """Without the plug-in."""
    return Gimp(gimp_root, tmp_path)


@pytest.fixture
def gimp(bare_gimp: Gimp) -> Gimp:
    installed = bare_gimp.command_line("install")
    assert installed.returncode == 0, installed.stderr
    return bare_gimp
