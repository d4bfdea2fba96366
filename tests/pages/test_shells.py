"""Commands are quoted for the shell that they are pasted into."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from codiff_batch.pages.shells import SHELLS, join, quote

HOSTILE = [
    "/photos/plain",
    "/photos/two words",
    '/photos/it\'s "quoted" $HOME `id` $(id) \\n !x ; rm -rf *',
    "/photos/line\nbreak",
    "/photos/ends with a break\n",
    "/photos/tab\tand 100%s %d \\ '",
    "/photos/\udce9t\udce9 \udcff",
    "/photos/\x1b[31mred \\n \\101",
    "/photos/ümläut \N{PARTY POPPER}",
    "-dash",
    "",
]


@pytest.mark.parametrize("shell", [name for name in ("dash", "bash", "zsh") if shutil.which(name)])
def test_a_posix_shell_splits_the_line_into_the_same_arguments(shell: str) -> None:
    line = join(HOSTILE, "posix")
    told = subprocess.run([shell, "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert told.stdout.split(b"\0")[:-1] == [os.fsencode(argument) for argument in HOSTILE]


def test_a_page_and_a_clipboard_can_carry_the_line() -> None:
    for argument in HOSTILE:
        assert quote(argument, "posix").replace("\n", "").isprintable()
        for shell in SHELLS:
            quote(argument, shell).encode("utf-8")


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [
        (r"C:\Photos\trip", r"C:\Photos\trip"),
        (r"C:\My Photos", r"'C:\My Photos'"),
        ("C:\\it's", "'C:\\it''s'"),
        ("C:\\it\u2019s $x `y", "'C:\\it\u2019\u2019s $x `y'"),
    ],
)
def test_powershell_takes_single_quotes_literally_and_doubled_ones_for_one(argument: str, quoted: str) -> None:
    assert quote(argument, "powershell") == quoted


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [
        (r"C:\Photos\trip", r"C:\Photos\trip"),
        (r"C:\My Photos & more", r'"C:\My Photos & more"'),
        ("C:\\My Photos\\", '"C:\\My Photos\\\\"'),
        (r"C:\100% %PATH%", '"C:\\100"^%" "^%"PATH"^%""'),
    ],
)
def test_cmd_keeps_percent_signs_and_backslashes(argument: str, quoted: str) -> None:
    assert quote(argument, "cmd") == quoted
