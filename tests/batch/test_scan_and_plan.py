"""Which files are taken, and where their outputs go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.plan import plan
from codiff_batch.batch.scan import scan
from codiff_batch.errors import OptionsConflict
from tests.photos import write


def names(folder: Path, *paths: Path, **options) -> list[str]:
    return [str(photo.path.relative_to(folder)) for photo in scan(paths or (folder,), **options)]


def test_folders_are_searched_deeply_in_a_stable_order(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.jpeg", "deep/er/c.jpe", "deep/d.jfif", "notes.txt", "e.png"):
        write(tmp_path / name, b"x")
    assert names(tmp_path) == ["a.jpeg", "b.JPG", "deep/d.jfif", "deep/er/c.jpe"]


def test_a_file_that_is_named_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    path = write(tmp_path / "upload.bin", b"x")
    assert names(tmp_path, path) == ["upload.bin"]


def test_hidden_files_thumbnail_folders_and_excluded_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("a.jpg", "._a.jpg", ".trash/b.jpg", "@eaDir/c.jpg", "out/d.jpg"):
        write(tmp_path / name, b"x")
    assert names(tmp_path, exclude=[tmp_path / "out"]) == ["a.jpg"]


def test_each_photo_comes_once_and_linked_folders_cannot_loop(tmp_path: Path) -> None:
    photo = write(tmp_path / "deep/a.jpg", b"x")
    (tmp_path / "deep/loop").symlink_to(tmp_path)
    assert names(tmp_path, tmp_path, photo, tmp_path / "deep") == ["deep/a.jpg"]


def test_a_folder_or_a_pipe_called_like_a_photo_is_not_one(tmp_path: Path) -> None:
    (tmp_path / "album.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(tmp_path) == []


def targets(*paths: Path, **options) -> list[Path]:
    return [task.target for task in plan(BatchOptions(paths, **options))]


def test_outputs_go_to_a_sibling_folder_with_the_tree_mirrored(tmp_path: Path) -> None:
    write(tmp_path / "photos/trip/a.jpg", b"x")
    assert targets(tmp_path / "photos") == [tmp_path / "photos-restored/trip/a.jpg"]
    assert targets(tmp_path / "photos/trip/a.jpg") == [tmp_path / "photos/trip-restored/a.jpg"]


def test_the_current_folder_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "photos/a.jpg", b"x")
    monkeypatch.chdir(tmp_path / "photos")
    assert targets(Path()) == [tmp_path / "photos-restored/a.jpg"]
    assert targets(Path("a.jpg")) == [tmp_path / "photos-restored/a.jpg"]


def test_an_output_folder_mirrors_one_tree_and_keeps_several_apart(tmp_path: Path) -> None:
    one, two, out = write(tmp_path / "x/1/a.jpg", b""), write(tmp_path / "y/2/a.jpg", b""), tmp_path / "out"
    assert targets(tmp_path / "x", output=out) == [out / "1/a.jpg"]
    assert targets(one.parent, two.parent, output=out) == [out / "1/a.jpg", out / "2/a.jpg"]


def test_a_format_changes_the_suffix_of_outputs_but_not_of_copies(tmp_path: Path) -> None:
    write(tmp_path / "p/a.jpeg", b"x")
    (task,) = plan(BatchOptions((tmp_path / "p",), format="tiff"))
    assert (task.target.name, task.copy.name) == ("a.tif", "a.jpeg")


def test_two_photos_never_share_an_output(tmp_path: Path) -> None:
    write(tmp_path / "p/a.jpg", b"x")
    write(tmp_path / "p/a.jpeg", b"x")
    first, second = plan(BatchOptions((tmp_path / "p",), format="png"))
    assert first.conflict is None
    assert second.conflict is not None
    assert "a.jpeg" in second.conflict


def test_an_output_folder_inside_the_source_is_not_scanned(tmp_path: Path) -> None:
    write(tmp_path / "p/a.jpg", b"x")
    write(tmp_path / "p/out/a.jpg", b"x")
    assert targets(tmp_path / "p", output=tmp_path / "p/out") == [tmp_path / "p/out/a.jpg"]


def test_outputs_onto_the_sources_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "p/a.jpg", b"x")
    with pytest.raises(OptionsConflict, match="would be a photo itself"):
        plan(BatchOptions((tmp_path / "p",), output=tmp_path / "p"))
    with pytest.raises(OptionsConflict, match="would be a photo itself"):
        plan(BatchOptions((tmp_path / "p/a.jpg",), output=tmp_path / "p"))


def test_in_place_targets_the_source_and_mirrors_the_backup(tmp_path: Path) -> None:
    photo = write(tmp_path / "p/trip/a.jpg", b"x")
    (task,) = plan(BatchOptions((tmp_path / "p",), in_place=True, backup=tmp_path / "b"))
    assert (task.target, task.backup) == (photo, tmp_path / "b/trip/a.jpg")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_place": True}, "needs --backup"),
        ({"backup": Path("b")}, "only makes sense"),
        ({"in_place": True, "backup": Path("b"), "output": Path("o")}, "exclude each other"),
        ({"in_place": True, "backup": Path("b"), "format": "png"}, "must be same or jpeg"),
        ({"in_place": True, "backup": Path("b"), "copy_skipped": True}, "no meaning"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict, message: str) -> None:
    with pytest.raises(OptionsConflict, match=message):
        BatchOptions((Path("p"),), **options).check()
