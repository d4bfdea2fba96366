"""Which files are taken, and where their outputs go."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from codiff_batch.batch.marks import Holds, claim
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.plan import plan, plan_each, without_collisions
from codiff_batch.batch.scan import SKIPPED_FOLDERS, Found, accepts, scan
from codiff_batch.batch.shard import Shard
from codiff_batch.errors import OptionsConflict, Role
from codiff_batch.settings import Judging, Settings
from tests.faults.nobody import as_nobody, folder_for_all, needs_permissions
from tests.photos import write
from tests.tiny_model import make_tiny_model


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


def found(*paths: Path, **options) -> tuple[list[str], dict[str, str]]:
    """Names of the photos, and errors by name."""
    photos: list[Found] = list(scan(paths, **options))
    return [p.path.name for p in photos if p.error is None], {p.path.name: p.error for p in photos if p.error}


def test_one_name_that_leads_nowhere_is_told_and_the_others_are_found(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"x")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "not-mounted/c.jpg")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    photos, errors = found(tmp_path / "dangling.jpg", tmp_path / "gone.jpg", tmp_path / "loop", photo)
    assert photos == ["a.jpg"]
    assert set(errors) == {"dangling.jpg", "gone.jpg", "loop"}
    assert errors["gone.jpg"] == "cannot be read: No such file or directory"
    assert "symbolic links" in errors["loop"]


def test_a_path_that_is_too_long_is_told_and_links_that_lead_nowhere_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "in/a.jpg", b"x")
    (tmp_path / "in/loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "in/loop").symlink_to("loop")
    (tmp_path / "in/dangling.jpg").symlink_to("gone.jpg")
    handle = os.open(write(tmp_path / "in/z/b.jpg", b"x").parent, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=handle)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    photos, errors = found(tmp_path / "in")
    assert photos == ["a.jpg", "b.jpg"]
    assert ["name too long" in error for error in errors.values()] == [True]


@needs_permissions
def test_what_may_not_be_looked_into_is_told_and_the_others_are_found() -> None:
    with folder_for_all() as folder:
        write(folder / "in/a.jpg", b"x")
        write(folder / "in/wedding/b.jpg", b"x").parent.chmod(0)
        write(folder / "in/listed-only/b.jpg", b"x").parent.chmod(0o744)
        write(folder / "private/c.jpg", b"x").parent.chmod(0o700)
        (folder / "in/link.jpg").symlink_to(folder / "private/c.jpg")
        with as_nobody():
            photos, errors = found(folder / "in", folder / "private")
    assert photos == ["a.jpg", "b.jpg"]  # the latter may be listed; opening it will fail
    assert set(errors) == {"wedding", "link.jpg", "private"}
    assert all("Permission denied" in error for error in errors.values())


@pytest.mark.parametrize("name", [*sorted(SKIPPED_FOLDERS), ".Trash-1000", "$RECYCLE.BIN", "@eaDir", "#Recycle"])
def test_recycle_bins_snapshots_and_thumbnails_are_no_sources(tmp_path: Path, name: str) -> None:
    write(tmp_path / name / "deeper/a.jpg", b"x")
    assert names(tmp_path) == []
    assert not accepts(tmp_path / name / "deeper/a.jpg", tmp_path)
    assert names(tmp_path, tmp_path / name)  # unless it is named


def test_thumbnails_of_our_own_report_are_no_sources(tmp_path: Path) -> None:
    write(tmp_path / "report-files/000000-before.jpg", b"x")
    write(tmp_path / "report-files/IMG_1.jpg", b"x")
    write(tmp_path / "elsewhere/000000-before.jpg", b"x")
    assert names(tmp_path) == ["elsewhere/000000-before.jpg", "report-files/IMG_1.jpg"]


def test_a_folder_is_left_out_by_what_it_is_however_it_is_spelled(tmp_path: Path) -> None:
    write(tmp_path / "in/out/a.jpg", b"x")
    (tmp_path / "link").symlink_to(tmp_path / "in/out")
    assert names(tmp_path, tmp_path / "in", exclude=[tmp_path / "link"]) == []
    assert names(tmp_path, tmp_path / "in", tmp_path / "link") == ["in/out/a.jpg"]


def test_a_hint_is_accepted_only_if_a_scan_would_find_it(tmp_path: Path) -> None:
    photo = write(tmp_path / "in/deep/a.jpg", b"x")
    write(tmp_path / "in/out/b.jpg", b"x")
    (tmp_path / "in/link").symlink_to("out")
    (tmp_path / "in/loop").symlink_to("loop")
    assert accepts(photo, tmp_path / "in")
    for other in ("link/b.jpg", "loop/x.jpg", "out/b.jpg", "deep/.a.jpg", "deep/a.txt", "../a.jpg"):
        assert not accepts(tmp_path / "in" / other, tmp_path / "in", [tmp_path / "in/out"]), other
    assert not accepts(photo, tmp_path / "in/out")
    assert not accepts(tmp_path / "in" / ("x" * 300) / "a.jpg", tmp_path / "in")


def test_a_folder_that_is_named_is_searched_whatever_it_is_called_and_was(tmp_path: Path) -> None:
    hidden, marked = write(tmp_path / ".hidden/a.jpg", b"x"), write(tmp_path / "marked/a.jpg", b"x")
    claim(marked.parent, Holds.OUTPUTS)
    for photo in (hidden, marked):
        assert names(photo.parent, photo.parent) == ["a.jpg"]
        assert accepts(photo, photo.parent)
        assert not accepts(photo, tmp_path)
    assert names(tmp_path) == []


def test_an_earlier_runs_outputs_that_are_named_beside_photos_are_left_out(tmp_path: Path) -> None:
    photo = write(tmp_path / "p/a.jpg", b"x")
    claim(write(tmp_path / "outputs/b.jpg", b"x").parent, Holds.OUTPUTS)
    tasks = plan(BatchOptions((tmp_path / "p", tmp_path / "outputs"), output=tmp_path / "out"))
    assert [task.source for task in tasks] == [photo]


def test_linked_folders_are_not_entered_wherever_they_lead(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/a.jpg", b"x")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path, tmp_path / "in") == []


@needs_permissions
def test_what_is_left_out_is_not_even_looked_into() -> None:
    with folder_for_all() as folder:
        write(folder / "private/a.jpg", b"x").parent.chmod(0)
        with as_nobody():
            assert found(folder, patterns=["private"]) == ([], {})
            assert set(found(folder)[1]) == {"private"}


def test_a_name_that_no_file_can_have_is_told_and_the_others_are_found(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"x")
    nul = tmp_path / "nu\0l.jpg"
    for arguments in ({"paths": (nul, photo)}, {"paths": (), "names": (nul, photo)}):
        first, second = scan(**arguments)
        assert first.error == "cannot be read: embedded null byte"
        assert (second.path, second.error) == (photo, None)


def test_what_is_wrong_below_a_folder_is_told_once_though_the_folder_is_named_twice(tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/long.jpg").symlink_to("x" * 300)
    (found,) = scan((tmp_path / "in", tmp_path / "in/deep"))
    assert found.error is not None
    assert "name too long" in found.error


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
    assert targets(one.parent, two, output=out) == [out / "1/a.jpg", out / "a.jpg"]


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


def test_what_is_not_done_takes_no_output_from_another_photo(tmp_path: Path) -> None:
    photo = write(tmp_path / "p/a.jpg", b"x")
    gone, there = plan(BatchOptions((tmp_path / "p/a.jpeg", photo), output=tmp_path / "out", format="png"))
    assert (gone.error is None, there.conflict) == (False, None)
    refused = replace(there, source=tmp_path / "p/a.jpeg", conflict="it is another run's")
    assert without_collisions([refused, there]) == [refused, there]
    assert [task.conflict is None for task in without_collisions([there, there])] == [True, False]


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
    ("options", "roles"),
    [
        ({"in_place": True}, (Role.BACKUP,)),
        ({"backup": Path("b")}, (Role.IN_PLACE,)),
        ({"in_place": True, "backup": Path("b"), "output": Path("o")}, (Role.IN_PLACE, Role.OUTPUT)),
        ({"in_place": True, "backup": Path("b"), "format": "png"}, (Role.IN_PLACE, Role.FORMAT)),
        ({"in_place": True, "backup": Path("b"), "types": ("jpeg", "png")}, (Role.IN_PLACE, Role.TYPES)),
        ({"in_place": True, "backup": Path("b"), "copy_skipped": True}, (Role.COPY_SKIPPED,)),
        ({"in_place": True, "backup": Path("b"), "cluster": "auto"}, (Role.CLUSTER, Role.IN_PLACE)),
        ({"cluster": "auto", "devices": ("cpu", "cuda")}, (Role.DEVICES,)),
        ({"format": "gif"}, ()),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict, roles: tuple[Role, ...]) -> None:
    with pytest.raises(OptionsConflict) as refused:
        BatchOptions((Path("p"),), **options).check()
    assert refused.value.remedies == roles


@pytest.mark.parametrize(
    "options",
    [
        {"output": Path("o"), "format": "png", "types": ("jpeg", "png"), "copy_skipped": True},
        {"in_place": True, "backup": Path("b"), "format": "jpeg"},
        {"in_place": True, "backup": Path("b"), "format": "same", "types": ("jpeg",)},
        {"cluster": "auto", "devices": ("cpu",)},
        {"cluster": "auto", "output": Path("o")},
        {"devices": ("cpu", "cuda")},
    ],
)
def test_options_that_go_together_are_accepted(tmp_path: Path, options: dict) -> None:
    BatchOptions((Path("p"),), model=str(make_tiny_model(tmp_path / "tiny")), **options).check()


def test_what_shapes_a_picture_and_what_decides_about_a_photo_is_told_in_words() -> None:
    """Journals keep these words; a photo is done again where they differ."""
    assert (BatchOptions().shape, BatchOptions().asked) == ("", "")
    shaped = BatchOptions(format="png", settings=Settings(strength=0.5), output=Path("o"), overwrite=True, jobs=3)
    assert (shaped.shape, shaped.asked) == ("format=png strength=0.5", "format=png strength=0.5")
    chosen = BatchOptions(quality=90, judging=Judging(min_qf=50), copy_skipped=True, again=True, max_pixels=7)
    assert chosen.shape == "quality=90"
    assert chosen.asked == "quality=90 min_qf=50 copy_skipped=True"


def test_each_shard_plans_photos_of_its_own_and_together_they_plan_all(tmp_path: Path) -> None:
    for index in range(9):
        write(tmp_path / f"p/{index}.jpg", b"x")
    shards = [{task.source.name for task in plan(BatchOptions((tmp_path / "p",), shard=Shard(i, 2)))} for i in (1, 2)]
    assert all(shards)
    assert shards[0].isdisjoint(shards[1])
    assert shards[0] | shards[1] == {f"{index}.jpg" for index in range(9)}


def test_a_listed_name_that_is_gone_fails_alone_wherever_it_was(tmp_path: Path) -> None:
    claim(tmp_path / "kept", Holds.BACKUPS)
    photo = write(tmp_path / "p/a.jpg", b"x")
    tasks = plan(BatchOptions(names=(photo, tmp_path / "kept/gone.jpg"), output=tmp_path / "out"))
    assert [task.error is None for task in tasks] == [True, False]
    write(tmp_path / "kept/gone.jpg", b"x")
    with pytest.raises(OptionsConflict, match="untouched originals"):
        plan(BatchOptions(names=(photo, tmp_path / "kept/gone.jpg"), output=tmp_path / "out"))


def test_one_photo_that_would_be_overwritten_keeps_no_other_back(tmp_path: Path) -> None:
    for name in ("p/a.jpg", "out/b.jpg", "p/c.jpg"):
        write(tmp_path / name, b"x")
    photos = [Found(tmp_path / name, (tmp_path / name).parent) for name in ("p/a.jpg", "out/b.jpg", "p/c.jpg")]
    options = BatchOptions((tmp_path / "p",), output=tmp_path / "out")
    tasks = plan_each(photos, options)
    assert [task.source for task in tasks] == [photo.path for photo in photos]
    assert [task.conflict is None for task in tasks] == [True, False, True]
