"""What shows or names photos is read by nobody who may not read them."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codiff_batch.batch.journal import Journal
from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.batch.rows import Attempt, Made, Standing
from codiff_batch.files.audience import audience, create, narrow
from tests.photos import jpeg, write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that all may enter; pytest's own are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        if audience([Path(folder)], os.getgid()) != 0o777:
            pytest.skip("temporary files are private on this machine")
        yield Path(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def may_read(path: Path) -> str:
    return {0o600: "owner", 0o640: "group", 0o644: "all"}[mode(path)]


@pytest.mark.parametrize(
    ("photo", "folder", "group", "readers"),
    [
        (0o644, 0o755, "own", 0o777),
        (0o640, 0o755, "own", 0o770),
        (0o640, 0o755, "another", 0o700),
        (0o600, 0o755, "own", 0o700),
        (0o604, 0o755, "own", 0o707),
        (0o604, 0o755, "another", 0o700),
        (0o644, 0o700, "own", 0o700),
        (0o644, 0o750, "own", 0o770),
        (0o644, 0o754, "own", 0o770),
    ],
)
def test_folders_and_groups_count_as_well(place: Path, photo: int, folder: int, group: str, readers: int) -> None:
    path = write(place / "photos/sub/a.jpg", b"")
    path.chmod(photo)
    (place / "photos").chmod(folder)
    gid = path.stat().st_gid
    assert audience([path], gid if group == "own" else gid + 1) == readers
    (place / "link.jpg").symlink_to(path)
    assert audience([place / "link.jpg"], gid if group == "own" else gid + 1) == readers, "links lead to the photo"


def test_the_most_private_photo_decides_and_one_that_is_gone_does_not(place: Path) -> None:
    paths = [write(place / name, b"") for name in ("open.jpg", "private.jpg")]
    paths[0].chmod(0o644)
    paths[1].chmod(0o600)
    assert audience(paths, os.getgid()) == 0o700
    assert audience([paths[0], place / "gone.jpg"], os.getgid()) == 0o777
    assert audience([paths[0], place / ("d" * 5000) / "too long.jpg"], os.getgid()) == 0o700
    create(place / "new", b"x", paths)
    assert mode(place / "new") == 0o600
    with pytest.raises(FileExistsError):
        create(place / "new", b"y", paths)
    narrow([place / "new"], paths[:1])
    assert mode(place / "new") == 0o600, "nothing is ever opened again"


@pytest.mark.parametrize(("code", "readers"), [("unexpected", "all"), ("took-too-long", "owner")])
def test_a_journal_of_photos_that_must_not_be_looked_at_is_its_owners(
    place: Path, monkeypatch: pytest.MonkeyPatch, code: str, readers: str
) -> None:
    """Their disk may hang, and the journal with it."""
    looked: list[Path] = []
    monkeypatch.setattr(
        "codiff_batch.files.audience.audience", lambda shown, group: looked.extend(shown) or audience(shown, group)
    )
    photo = write(place / "photos/a.jpg", jpeg(20))
    journal = Journal(place / "journal.sqlite")
    journal.path.chmod(0o644)
    outcome = Outcome(photo, None, Kind.FAILED, "as said", code)
    journal.record(Attempt(Path("a.jpg"), photo, None, None, "", Made("", "tiny"), outcome))
    journal.flush()
    assert may_read(journal.path) == readers
    assert (photo in looked) == (readers == "all")
    journal.close()


@pytest.mark.parametrize(("photo", "readers"), [(0o600, "owner"), (0o644, "all")])
def test_pages_reports_comparisons_and_journals(
    place: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, photo: int, readers: str
) -> None:
    if os.umask(0o022) != 0o022:
        pytest.skip("made for the usual umask")
    monkeypatch.chdir(place)
    picture = write(place / "photos/a.jpg", jpeg(20))
    broken = write(place / "broken/a.jpg", b"no photo")
    for path in (picture, broken):
        path.chmod(photo)
        path.parent.chmod(0o755)
    for suffix in ("html", "json", "csv"):
        assert run("photos", "--dry-run", "-q", "--report", f"made/report.{suffix}").code == 0
    for suffix in ("html", "png"):
        assert run("compare", picture, picture, "-o", f"made/compare.{suffix}").code == 0
    run("preview", "broken", "-o", "made/preview.html", "-q")
    run("broken", "-o", "made/out", "-q")
    run("report", "made/out", "-o", "made/journal.html")
    made = [
        path for path in (place / "made").rglob("*") if path.is_file() and not path.name.startswith(("mark", "lock"))
    ]
    assert {path.name for path in made} >= {"000000-before.webp", "panel-0.png", "journal-all.sqlite", "preview.html"}
    assert {str(path.relative_to(place)): may_read(path) for path in made if may_read(path) != readers} == {}


def test_all_files_of_an_open_journal_are_private_before_they_name_a_private_photo(place: Path) -> None:
    photo = write(place / "photos/a.jpg", b"")
    photo.chmod(0o600)
    with contextlib.closing(Journal(place / "journal.sqlite")) as journal:
        journal.stand(Standing(Path("b.jpg"), write(place / "photos/b.jpg", b""), False, "12"))
        files = [place / f"journal.sqlite{end}" for end in ("", "-wal", "-shm")]
        for path in files:
            path.chmod(0o644)
        journal.stand(Standing(Path("a.jpg"), photo, False, "12"))
        assert [may_read(path) for path in files] == ["owner"] * 3
