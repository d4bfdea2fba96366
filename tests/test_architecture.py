"""docs/architecture.md is true: its rooms are there, they import what its table allows, and its picture shows that."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/architecture.md"
PICTURE = ROOT / "docs/images/rooms.svg"
PACKAGE = "codiff_batch"

FOUNDATIONS = {"errors.py", "exit_codes.py", "__init__.py"}
"""What every room may import."""
FRONT = {"__main__.py"}
"""What starts the command line; no room of its own."""


@cache
def table() -> dict[str, set[str]]:
    """What each room may import, by the table of the page."""
    rows = re.findall(r"^\| (`[^|]+) \|[^|]*\| ([^|]*)\|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    rooms = {name: _names(allowed) for names, allowed in rows for name in sorted(_names(names))}
    return {room: set(rooms) - {room} if allowed == {"*"} else allowed for room, allowed in rooms.items()}


def _names(cell: str) -> set[str]:
    return {name.rstrip("/") for name in re.findall(r"`([^`]+)`", cell)} or ({"*"} if "everything" in cell else set())


@cache
def imports() -> dict[str, dict[str, str]]:
    """What each room imports at run time: the file that does it, by room."""
    found: dict[str, dict[str, str]] = {}
    files = [path for folder in (PACKAGE, "plugins", "training") for path in (ROOT / folder).rglob("*.py")]
    for path in files:
        own = room_of(path.relative_to(ROOT))
        for module in modules(ast.parse(path.read_text(encoding="utf-8"))):
            other = room_of(Path(*module.split(".")))
            if other != own and other not in FOUNDATIONS and own not in FRONT:
                found.setdefault(own, {})[other] = path.relative_to(ROOT).as_posix()
    return found


def modules(tree: ast.Module) -> Iterator[str]:
    """The project's modules that a file imports, but for the type checker alone."""
    ahead: list[ast.AST] = [tree]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        ahead += [part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.expr)]
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in named if name.split(".")[0] in (PACKAGE, "training"))


def room_of(path: Path) -> str:
    """The room of a module, or of a name in it."""
    parts = path.with_suffix("").parts
    if parts[0] == "plugins":
        return "/".join(parts[:2])
    if parts[0] != PACKAGE:
        return parts[0]
    if len(parts) == 1:
        return "__init__.py"
    folder = ROOT / PACKAGE / parts[1]
    return parts[1] if folder.is_dir() else f"{parts[1]}.py" if folder.with_suffix(".py").exists() else "__init__.py"


def picture() -> tuple[set[str], set[tuple[str, str]]]:
    """Rooms and arrows of the picture."""
    elements = list(ET.parse(PICTURE).iter())
    rooms = {element.attrib["data-room"] for element in elements if "data-room" in element.attrib}
    return rooms, {(e.attrib["data-from"], e.attrib["data-to"]) for e in elements if "data-from" in e.attrib}


def reachable(start: str, arrows: set[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    ahead = {start}
    while ahead:
        ahead = {end for begin, end in arrows if begin in ahead} - found
        found |= ahead
    return found


def test_every_room_is_named_and_every_named_room_is_there() -> None:
    there = {room_of(path.relative_to(ROOT)) for path in (ROOT / PACKAGE).rglob("*.py")} | {"training"}
    there |= {f"plugins/{path.name}" for path in (ROOT / "plugins").iterdir() if path.is_dir()}
    assert set(table()) == there - FOUNDATIONS - FRONT
    assert picture()[0] == set(table())


def test_every_file_named_in_the_page_is_there() -> None:
    for name in re.findall(r"`((?:\w+/)*\w+\.(?:py|md|toml))`", PAGE.read_text(encoding="utf-8")):
        assert list((ROOT / PACKAGE).rglob(name)) or (ROOT / name).exists(), name


@pytest.mark.slow
@pytest.mark.parametrize("room", table())
def test_a_room_imports_what_the_table_says_and_nothing_else(room: str) -> None:
    found = imports().get(room, {})
    assert set(found) <= table()[room], {other: found[other] for other in set(found) - table()[room]}
    if room != "cli":
        assert table()[room] <= set(found), "the table allows what nothing needs"


@pytest.mark.slow
def test_the_pictures_arrows_are_imports_and_lead_to_all_others() -> None:
    arrows = picture()[1]
    assert {(begin, end) for begin, end in arrows if end not in imports()[begin]} == set()
    for room, found in imports().items():
        assert set(found) <= reachable(room, arrows), room


def test_no_arrow_leads_back() -> None:
    arrows = {(room, other) for room, found in imports().items() for other in found}
    for room in table():
        assert room not in reachable(room, arrows)
