"""Which photos are taken: by name, by list, and what is left out."""

from __future__ import annotations

import os
import subprocess
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.plan import plan
from codiff_batch.batch.scan import accepts, matches, scan
from tests.faults.nobody import as_nobody, folder_for_all, needs_open_clone, needs_permissions
from tests.photos import jpeg, write
from tests.tiny_model import make_tiny_model


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with equal names in two folders of photos."""
    for name in ("monday/1.jpg", "monday/2.jpg", "tuesday/1.jpg"):
        write(tmp_path / "photos" / name, jpeg(20))
    monkeypatch.chdir(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.mark.slow
@pytest.mark.parametrize(("ends", "null"), [("-print0", ["-0"]), ("-print", [])])
def test_a_list_of_files_keeps_its_tree_and_never_feeds_outputs_back_in(
    run, here: Path, monkeypatch: pytest.MonkeyPatch, ends: str, null: list[str]
) -> None:
    model = make_tiny_model(here.parent / "tiny")

    def find_and_restore() -> str:
        found = subprocess.run(["find", ".", "-name", "*.jpg", ends], stdout=subprocess.PIPE, check=True).stdout
        monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(found)))
        return run("--files-from", "-", *null, "-o", "restored", "--model", model).err

    assert "3 photos: 3 restored" in find_and_restore()
    expected = ["monday/1.jpg", "monday/2.jpg", "tuesday/1.jpg"]
    assert sorted(str(path.relative_to("restored")) for path in Path("restored").rglob("*.jpg")) == expected
    assert "3 photos: 0 restored, 3 skipped" in find_and_restore()


def targets(*names: str, **options: object) -> list[str]:
    tasks = plan(BatchOptions(names=tuple(map(Path, names)), **options))
    return [os.path.relpath(task.target) for task in tasks]


def test_listed_names_may_be_absolute_or_lead_elsewhere(here: Path, tmp_path: Path) -> None:
    write(tmp_path / "other/3.jpg", jpeg(20))
    names = "monday/1.jpg", str(here / "tuesday/1.jpg"), "../other/3.jpg", "tuesday/../monday/2.jpg"
    elsewhere = str((tmp_path / "other/3.jpg").relative_to("/"))
    assert targets(*names, output=Path("out")) == [
        "out/monday/1.jpg", "out/tuesday/1.jpg", f"out/{elsewhere}", "out/monday/2.jpg",
    ]  # fmt: skip
    assert targets("monday/1.jpg") == ["../photos-restored/monday/1.jpg"]
    (task,) = plan(BatchOptions(names=(Path("monday/1.jpg"),)))
    assert task.source == Path("monday/1.jpg")  # reports name it as the list does


def test_a_listed_file_is_taken_once_and_listed_folders_are_passed_over(here: Path) -> None:
    assert targets("monday", "monday/1.jpg", str(here / "monday/1.jpg"), ".", output=Path("out")) == [
        "out/monday/1.jpg"
    ]


def test_a_listed_file_in_the_output_folder_is_an_output(here: Path) -> None:
    assert targets("monday/1.jpg", "tuesday/1.jpg", output=Path("monday")) == ["monday/tuesday/1.jpg"]


def test_a_list_may_be_a_file_with_any_names_or_none(run, here: Path) -> None:
    odd = b"caf\xe9 \xff.jpg"
    write(Path(os.fsdecode(odd)), jpeg(20))
    Path("list").write_bytes(b"monday/1.jpg\r\n\n" + odd + b"\n")
    ran = run("--files-from", "list", "--dry-run")
    assert "2 photos: 2 would be restored" in ran.err
    Path("list").write_bytes(b"")
    ran = run("--files-from", "list")
    assert (ran.code, ran.err.startswith("no JPEG files found")) == (0, True)
    assert run("--files-from", "nowhere").code == 2


def test_a_name_that_is_gone_fails_alone(run, here: Path) -> None:
    Path("dangling.jpg").symlink_to("/nowhere/c.jpg")
    ran = run("dangling.jpg", "gone.jpg", "monday/1.jpg", "--dry-run")
    assert ran.code == 3
    assert "3 photos: 1 would be restored, 0 skipped, 2 failed" in ran.err
    assert ran.err.count("No such file or directory") >= 2
    Path("list").write_text("gone.jpg\nmonday/1.jpg\n")
    ran = run("--files-from", "list", "--dry-run")
    assert (ran.code, "1 would be restored, 0 skipped, 1 failed" in ran.err) == (3, True)
    assert run("inspect", "gone.jpg", "monday/1.jpg").code == 3


def test_without_any_name_that_is_there_the_command_line_is_wrong(run, here: Path) -> None:
    assert run("gone.jpg", "--dry-run").code == 2
    assert "Missing argument 'PATH...'" in run("--dry-run").err


def test_the_root_of_a_disk_wants_an_output_folder_and_says_which_option(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codiff_batch.batch.plan.scan", lambda *paths, **named: pytest.fail("the disk was searched"))
    ran = run("/")
    assert (ran.code, ran.err) == (
        2, "codiff-batch: error: / has no name to derive an output folder from (see --output)\n"
    )  # fmt: skip


@needs_permissions
@needs_open_clone
@pytest.mark.parametrize(("options", "role"), [([], "--output"), (["--in-place", "--backup", "kept"], "--backup")])
def test_a_folder_that_cannot_be_made_beside_the_photos_names_the_option(
    run, monkeypatch: pytest.MonkeyPatch, options: list[str], role: str
) -> None:
    """As the one beside a home folder."""
    with folder_for_all() as above:
        write(above / "home/a.jpg", jpeg(20))
        above.chmod(0o755)
        monkeypatch.setenv("XDG_STATE_HOME", str(above / "state"))
        chosen = [str(above / option) if option == "kept" else option for option in options]
        with as_nobody():
            ran = run(above / "home", *chosen)
    assert ran.code == 4
    assert f"Permission denied (see {role})" in ran.err


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("monday", ["tuesday/1.jpg"]),
        ("monday/", ["tuesday/1.jpg"]),
        ("./monday/1.jpg", ["monday/2.jpg", "tuesday/1.jpg"]),
        ("1.jpg", ["monday/2.jpg"]),
        ("*day/1.*", ["monday/2.jpg"]),
        ("[!m]*/*.jpg", ["monday/1.jpg", "monday/2.jpg"]),
        ("day", ["monday/1.jpg", "monday/2.jpg", "tuesday/1.jpg"]),
        ("photos", ["monday/1.jpg", "monday/2.jpg", "tuesday/1.jpg"]),
        ("./", ["monday/1.jpg", "monday/2.jpg", "tuesday/1.jpg"]),
        ("?", ["monday/1.jpg", "monday/2.jpg", "tuesday/1.jpg"]),
    ],
)
def test_what_matches_is_left_out_wherever_it_comes_from(here: Path, pattern: str, left: list[str]) -> None:
    by_folder = [str(photo.relative) for photo in scan([Path()], patterns=[pattern])]
    by_list = [str(photo.relative) for photo in scan((), names=sorted(Path().rglob("*.jpg")), patterns=[pattern])]
    by_event = [str(path) for path in sorted(Path().rglob("*.jpg")) if accepts(path, Path(), patterns=[pattern])]
    by_name = [str(photo.path) for photo in scan(sorted(Path().rglob("*.jpg")), patterns=[pattern])]
    assert by_folder == by_list == by_event == left
    if "/" not in pattern.removeprefix("./").rstrip("/") and "day" not in pattern:
        assert by_name == left  # of a file that is named, only its own name is matched


def test_folders_above_the_one_that_was_named_are_not_matched(here: Path) -> None:
    assert not matches(Path("photos/a.jpg"), Path("photos"), ["photos"])
    assert not matches(Path("photos/a.jpg"), Path("photos"), ["ph*"])
    assert not matches(Path("photos/a.jpg"), Path("photos"), ["photos/?"])
    assert len(list(scan([here], patterns=["photos", "pytest*"]))) == 3


@pytest.mark.parametrize("pattern", ["photos/monday", "./photos/monday/", "photos/mon*", "{}/photos/monday"])
def test_a_pattern_may_be_spelt_as_the_folder_was(here: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    """What the shell completes; to pass over it in silence would restore what was to be left alone."""
    monkeypatch.chdir(here.parent)
    patterns = [pattern.format(here.parent)]
    named = [Path("photos")] if not pattern.startswith("{") else [Path("photos"), here]
    for root in named:
        assert [photo.relative for photo in scan([root], patterns=patterns)] == [Path("tuesday/1.jpg")]
        assert not accepts(root / "monday/1.jpg", root, patterns=patterns)
    listed = scan((), names=[Path("photos/monday/1.jpg"), here / "tuesday/1.jpg"], patterns=patterns)
    assert [photo.path.parent.name for photo in listed] == ["tuesday"]


def test_lists_of_other_systems_are_read_or_refused_in_words(run, here: Path) -> None:
    """Windows begins a list in UTF-8 with a mark, ends its lines otherwise, and has lists in UTF-16."""
    lists = here.parent
    write(lists / "notepad", b"\xef\xbb\xbfmonday/1.jpg\r\ntuesday/1.jpg\r\n")
    assert "2 photos: 2 would be restored" in run("--files-from", lists / "notepad", "--dry-run").err
    for data in ("monday/1.jpg\n".encode("utf-16"), b"monday/1.jpg\0tuesday/1.jpg\0"):
        ran = run("--files-from", write(lists / "list", data), "--dry-run")
        assert (ran.code, "add --null" in ran.err) == (2, True)


@pytest.mark.slow
def test_exclude_works_for_every_command_that_takes_photos(run, here: Path) -> None:
    assert "1 photo: " in run(".", "--dry-run", "--exclude", "monday").err
    assert len(run("inspect", ".", "--exclude", "1.jpg").out.splitlines()) == 2
    make_tiny_model(here.parent / "tiny")
    run("watch", ".", "--once", "--settle", "0", "-o", "../out", "--exclude", "monday", "--model", "../tiny")
    assert [str(path.relative_to("../out")) for path in Path("../out").rglob("*.jpg")] == ["tuesday/1.jpg"]
