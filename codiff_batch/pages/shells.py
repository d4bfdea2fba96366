"""Quotes a command for the shell that it will be pasted into."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

Shell: TypeAlias = Literal["posix", "powershell", "cmd"]
SHELLS: tuple[Shell, ...] = get_args(Shell)

_PLAIN_ON_WINDOWS = re.compile(r"[\w.:/\\+=-]+", re.ASCII)


def usual_shell() -> Shell:
    """This system's usual shell."""
    return "powershell" if os.name == "nt" else "posix"


def join(arguments: Sequence[str], shell: Shell) -> str:
    """One line that the shell splits into these arguments again."""
    return " ".join(quote(argument, shell) for argument in arguments)


def enter(folder: Path, shell: Shell) -> str:
    """The start of a line whose rest must run in a folder, and only there."""
    name = quote(str(folder), shell)
    if shell == "powershell":
        return f"Set-Location -LiteralPath {name} -ErrorAction Stop; "
    return f"cd {'-- ' if shell == 'posix' else '/d '}{name} && "


def quote(argument: str, shell: Shell) -> str:
    """One argument; bytes that are not UTF-8 are as ``os.fsdecode`` gives them, and only POSIX shells support them."""
    if shell == "posix":
        return _posix(argument)
    text = argument.encode("utf-8", "replace").decode()
    return _powershell(text) if shell == "powershell" else _cmd(text)


def _posix(argument: str) -> str:
    """As in bash, zsh, dash and any other shell of POSIX.1-2008, 2.2."""
    if argument.isprintable():
        return shlex.quote(argument)
    if argument.endswith("\n"):  # which the substitution below would drop
        return shlex.quote(argument)
    # Neither a page nor a terminal can hold these bytes, so the shell's own printf writes them.
    return f"\"$(printf '{''.join(_in_format(byte) for byte in os.fsencode(argument))}')\""


def _in_format(byte: int) -> str:
    """One byte in a format of printf within single quotes."""
    if byte == ord("%"):
        return "%%"
    is_plain = 32 <= byte < 127 and byte not in b"\\'-"
    return chr(byte) if is_plain else f"\\{byte:03o}"


def _powershell(argument: str) -> str:
    if _PLAIN_ON_WINDOWS.fullmatch(argument):
        return argument
    # Typographic quotes end a string as well (PowerShell's about_Quoting_Rules).
    return "'" + re.sub("(['\u2018-\u201b])", r"\1\1", argument) + "'"


def _cmd(argument: str) -> str:
    if _PLAIN_ON_WINDOWS.fullmatch(argument):
        return argument
    # The C library reads a backslash before the closing quote as escaping it, and needs inner quotes doubled.
    doubled = re.sub(r'(\\*)"', r'\1\1\\"', argument)
    doubled = re.sub(r"(\\+)$", r"\1\1", doubled)
    # A percent sign keeps its meaning between quotes and loses it behind a caret outside them.
    return '"' + doubled.replace("%", '"^%"') + '"'
