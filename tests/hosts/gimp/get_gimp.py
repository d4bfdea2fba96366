"""Brings a real GIMP 3.0 into a folder, from the packages of Debian 13, on any Debian as root.

Run as ``python -m tests.hosts.gimp.get_gimp FOLDER``.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from tests.hosts.recipe import bring, run

SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = "ca-certificates,gimp,dbus-x11,fonts-dejavu-core,adwaita-icon-theme,locales"
LEFT_OUT = ("man", "doc", "locale")
LANGUAGE = "de"
LOCALE = "de_DE.UTF-8"
"""GIMP's German, for tests of the translation."""


def get_gimp(folder: Path) -> Path:
    """Install into a folder, unless it is there already, and return the root of its file system.

    Raises:
        InstallFailed: the packages cannot be had.
    """
    bring(folder, Path(__file__), _install)
    return _root(folder)


def _root(folder: Path) -> Path:
    return folder / "root"


def _install(folder: Path) -> None:
    root = _root(folder)
    mirror = re.search(r"^URIs: (\S+)", SOURCES.read_text(), re.MULTILINE)
    assert mirror is not None
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--components=main"]
    command += [f"--include={PACKAGES}", '--aptopt=APT::Install-Recommends "false"']
    command += ['--aptopt=Acquire::Languages "none"']
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT]
    command += [f"--dpkgopt=path-include=/usr/share/locale/{LANGUAGE}/*"]
    command += [f'--customize-hook=chroot "$1" localedef -i {LOCALE.split(".")[0]} -f UTF-8 {LOCALE}']
    command += ["trixie", str(root), f"deb [signed-by={KEYRING}] {mirror.group(1)} trixie main"]
    run(command, before_again=lambda: shutil.rmtree(root, ignore_errors=True))


if __name__ == "__main__":
    print(get_gimp(Path(sys.argv[1])))  # noqa: T201
