"""No command can lose an original: what is refused before anything is touched, and the last guard at the commit."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codiff_batch.batch import outputs, plan
from codiff_batch.batch.marks import Holds, claim
from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.outputs import Original, put_in_place, put_output
from codiff_batch.batch.overlaps import refuse_same_folder
from codiff_batch.errors import (
    BackupUnfit,
    FolderUnavailable,
    OptionsConflict,
    OutputExists,
    PhotoError,
    SourceChanged,
    SourceIsLink,
)
from codiff_batch.files.identity import Stamp, same_file
from codiff_batch.files.reading import read_whole, sha256
from tests import warm
from tests.cli.test_restore import tree
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model

PHOTOS = ("a.jpg", "trip/b.jpg")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate(PHOTOS):
        write(tmp_path / "photos" / name, jpeg(10, image=scene(seed=seed)))
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def farm_of_links(folder: Path) -> None:
    for name in PHOTOS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(Path("photos", name).resolve())


def farm_of_hard_links(folder: Path) -> None:
    for name in PHOTOS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).hardlink_to(Path("photos", name))


def linked_subfolder(folder: Path) -> None:
    folder.mkdir()
    (folder / "trip").symlink_to(Path("photos/trip").resolve())


def linked_elsewhere_among_the_photos(folder: Path) -> None:
    """The backups would be new files in a folder that is searched for photos."""
    folder.mkdir()
    Path("photos/other").mkdir()
    write(Path("photos/other/c.jpg"), jpeg(10))
    (folder / "trip").symlink_to(Path("photos/other").resolve())


def linked_elsewhere_above_a_folder_that_is_to_be_made(folder: Path) -> None:
    write(Path("photos/far/deep/d.jpg"), jpeg(10))
    write(Path("photos/other/c.jpg"), jpeg(10))
    folder.mkdir()
    (folder / "far").symlink_to(Path("photos/other").resolve())


@pytest.mark.parametrize(
    ("sources", "backup", "prepare"),
    [
        (["photos"], "photos", None),
        (["photos"], "./photos/../photos", None),
        (["photos"], ".", None),
        (["photos", "others"], ".", lambda _: Path("others").mkdir()),
        (["photos"], "link", lambda folder: folder.symlink_to("photos")),
        (["photos"], "farm", farm_of_links),
        (["photos"], "farm", farm_of_hard_links),
        (["photos"], "farm", linked_subfolder),
        (["photos"], "farm", linked_elsewhere_among_the_photos),
        (["photos"], "farm", linked_elsewhere_above_a_folder_that_is_to_be_made),
        (["photos/trip"], "photos", None),
        (["photos/a.jpg"], "photos", None),
        (["photos/trip", "others"], "photos", lambda _: Path("others").mkdir()),
    ],
)
def test_a_backup_that_would_be_a_photo_is_refused_whatever_way_it_is_spelt(
    run, photos: Path, model: Path, sources: list[str], backup: str, prepare: Callable[[Path], None] | None
) -> None:
    if prepare is not None:
        prepare(Path(backup))
    before = tree(Path())
    ran = run(*sources, "--in-place", "--backup", backup, "--model", model)
    assert ran.code == 2
    assert ran.err.startswith("codiff-batch: error: ")
    assert ran.err.count("\n") == 1
    assert tree(Path()) == before


@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--format", "png"]])
def test_outputs_among_the_photos_are_refused(run, photos: Path, model: Path, options: list[str]) -> None:
    Path("link").symlink_to("photos")
    linked_subfolder(Path("farm"))
    before = tree(Path())
    for output in ("photos", "link", "farm"):
        assert run("photos", "-o", output, "--model", model, *options).code == 2
    assert tree(Path()) == before


@pytest.mark.parametrize("farm", [farm_of_links, farm_of_hard_links])
def test_a_copy_that_would_be_a_photo_is_refused_though_its_output_would_not(
    run, photos: Path, model: Path, farm: Callable[[Path], None]
) -> None:
    farm(Path("farm"))
    before = tree(Path())
    ran = run("photos", "-o", "farm", "--copy-skipped", "--format", "png", "--model", model)
    assert ran.code == 2
    assert "would be a photo itself" in ran.err
    assert tree(Path()) == before


def test_what_would_be_lost_is_said_in_its_own_word(photos: Path) -> None:
    linked_elsewhere_among_the_photos(Path("farm"))
    for options, what in (({"output": Path("farm")}, "output"), ({"backup": Path("farm"), "in_place": True}, "backup")):
        with pytest.raises(OptionsConflict, match=f"^{what}s would lie among the photos of photos"):
            plan.plan(BatchOptions((photos,), **options))
        with pytest.raises(OptionsConflict, match=f"^the {what} of photos/a.jpg would be a photo itself"):
            plan.plan(BatchOptions((photos / "a.jpg",), **{name: value and photos for name, value in options.items()}))


def test_outputs_may_lie_above_the_photos_and_backups_may_not(photos: Path) -> None:
    assert len(plan.plan(BatchOptions((photos / "trip",), output=photos))) == 1
    with pytest.raises(OptionsConflict, match="the backup folder photos holds the photos themselves"):
        plan.plan(BatchOptions((photos / "trip",), backup=photos, in_place=True))


@pytest.mark.parametrize("how", ["searched by a run", "searched by a daemon", "above a photo"])
def test_a_folder_that_shows_the_mark_of_another_is_that_folder(photos: Path, how: str) -> None:
    """As one that is mounted twice does, whatever numbers the system gives to it."""
    Path("out/.codiff-batch").mkdir(parents=True)
    (photos / ".codiff-batch").symlink_to(Path("out/.codiff-batch").resolve())
    named = photos / "trip/b.jpg"
    task = plan.Task(named, Path("out/b.jpg"), Path("out/b.jpg"), Path("out"), source_root=photos)
    sources, tasks = {
        "searched by a run": ([], [task]),
        "searched by a daemon": ([photos], []),
        "above a photo": ([named], [replace(task, source_root=None)]),
    }[how]
    with pytest.raises(OptionsConflict, match=r"among the photos: .*photos is the same folder"):
        refuse_same_folder(Path("out"), sources, tasks)
    assert list(Path("out/.codiff-batch").iterdir()) == []
    (photos / ".codiff-batch").unlink()
    refuse_same_folder(Path("out"), sources, tasks)


def test_outputs_above_a_photo_that_was_named_are_not_among_photos(photos: Path) -> None:
    (photos / ".codiff-batch").mkdir()
    refuse_same_folder(photos, [photos / "trip/b.jpg"], [])
    with pytest.raises(OptionsConflict, match="among the photos"):
        refuse_same_folder(photos, [photos], [])


def test_a_folder_that_takes_no_file_is_told_when_it_is_compared(photos: Path) -> None:
    with pytest.raises(FolderUnavailable, match="cannot write to out: No such file"):
        refuse_same_folder(Path("out"), [photos], [])


def test_an_output_of_another_ending_that_would_be_a_photo_is_refused(run, photos: Path, model: Path) -> None:
    Path("out").mkdir()
    Path("out/a.png").hardlink_to("photos/a.jpg")
    ran = run("photos", "-o", "out", "--overwrite", "--format", "png", "--model", model)
    assert ran.code == 2
    assert "would be a photo itself" in ran.err


@pytest.mark.slow
def test_a_bind_mount_of_the_photos_is_the_photos(photos: Path, model: Path) -> None:
    Path("kept").mkdir()
    before = tree(Path("photos"))
    program = f"codiff-batch photos --in-place --backup kept --model {model}"
    ran = in_mounts_of_its_own(f"mount --bind photos kept && {program}")
    assert ran.returncode == 2
    assert "would be a photo itself" in ran.stderr
    assert tree(Path("photos")) == before


def in_mounts_of_its_own(script: str) -> subprocess.CompletedProcess[str]:
    command = ["unshare", "-rm", "bash", "-c", script]
    if subprocess.run([*command[:-1], "mount -t tmpfs none /mnt"], capture_output=True).returncode:
        pytest.skip("this machine allows no mounts")
    return subprocess.run(command, env={**os.environ, "PATH": warm.path()}, capture_output=True, text=True)


def test_photos_seen_through_another_mount_are_found_out_by_the_folders_mark(
    run, photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another mount of a folder has other numbers; only what is written there can be recognised."""
    monkeypatch.setattr(plan, "refuse_overlaps", lambda tasks: None)
    before = tree(Path())
    for place in (("--in-place", "--backup", "photos"), ("-o", "photos")):
        ran = run("photos", *place, "--model", model)
        assert ran.code == 2
        assert "is the same folder" in ran.err
        assert tree(Path()) == before
        assert not Path("photos/.codiff-batch").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bindfs") is None, reason="needs bindfs, for a mount with numbers of its own")
@pytest.mark.parametrize(
    "command",
    [
        "photos/a.jpg -o again --overwrite",
        "photos/a.jpg --in-place --backup again",
        "photos/trip photos/more -o again --overwrite",
        "photos/trip photos/more --in-place --backup again",
        "watch photos --once --settle 0 -o again --overwrite",
        "watch photos --once --settle 0 --in-place --backup again",
        "watch photos/trip photos/more --once --settle 0 -o again --overwrite",
    ],
)
def test_a_share_that_is_mounted_twice_is_one_folder(photos: Path, model: Path, command: str) -> None:
    write(Path("photos/more/c.jpg"), jpeg(10))
    before = tree(Path("photos"))
    Path("again").mkdir()
    program = f"codiff-batch {command} --model {model}"
    ran = in_mounts_of_its_own(f"bindfs photos again || exit 77; {program}; code=$?; umount again; exit $code")
    if ran.returncode == 77:
        pytest.skip("this machine allows no FUSE")
    assert ran.returncode == 2, ran.stderr
    assert "is the same folder" in ran.stderr
    assert tree(Path("photos")) == before
    assert not list(Path("photos").rglob(".codiff-batch*"))


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--in-place", "--backup", "other"], ["-o", "elsewhere"]])
def test_originals_of_an_earlier_run_are_never_sources(run, photos: Path, model: Path, arguments: list[str]) -> None:
    assert run("photos", "--in-place", "--backup", "photos/monday", "--model", model).code == 0
    kept = tree(Path("photos/monday"))
    for named in ("photos/monday", "photos/monday/trip", "photos/monday/a.jpg"):
        ran = run(named, "--model", model, *arguments)
        assert ran.code == 2
        assert "untouched originals of earlier runs" in ran.err
    write(Path("photos/new.jpg"), jpeg(10, image=scene(seed=5)))
    ran = run("photos", "--in-place", "--backup", "photos/tuesday", "--model", model)
    assert "1 restored" in ran.err
    assert tree(Path("photos/monday")) == kept


@pytest.mark.slow
def test_outputs_of_an_earlier_run_are_never_sources(run, photos: Path, model: Path) -> None:
    run("photos", "-o", "photos/out", "--model", model)
    assert "3 photos" not in run("photos", "--dry-run", "--model", model).err
    ran = run("photos/out", "--model", model)
    assert ran.code == 2
    assert "holds outputs of earlier runs" in ran.err
    assert run("photos", "photos/out", "-o", "o", "--model", model).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_backups_are_never_overwritten_by_outputs(run, photos: Path, model: Path, options: list[str]) -> None:
    run("photos", "--in-place", "--backup", "kept", "--model", model)
    kept = tree(Path("kept"))
    write(Path("new/a.jpg"), jpeg(20))
    assert run("new", "-o", "kept", "--model", model, *options).code == 2
    write(Path("more/trip/b.jpg"), jpeg(20))
    assert run("more/trip", "-o", "kept/trip", "--model", model, *options).code == 2
    assert tree(Path("kept")) == kept


@pytest.mark.slow
def test_the_guard_alone_saves_the_originals(run, photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every check at planning taken out, what is left is the commit's own look at the backup."""
    monkeypatch.setattr(plan, "refuse_overlaps", lambda tasks: None)
    monkeypatch.setattr("codiff_batch.batch.journals.refuse_same_folder", lambda *folders: None)
    Path("link").symlink_to("photos")
    farm_of_links(Path("farm"))
    before = {name: Path("photos", name).read_bytes() for name in PHOTOS}
    for backup in ("photos", "link", "farm"):
        ran = run("photos", "--in-place", "--backup", backup, "--new-backup", "--model", model)
        assert ran.code == 3
        assert "0 restored, 0 skipped, 2 failed" in ran.err
        assert {name: Path("photos", name).read_bytes() for name in PHOTOS} == before
        shutil.rmtree("photos/.codiff-batch", ignore_errors=True)
    ran = run("photos", "-o", "photos", "--overwrite", "--new-output", "--model", model)
    assert "0 restored" in ran.err
    assert {name: Path("photos", name).read_bytes() for name in PHOTOS} == before


class Commit:
    """One photo about to be replaced in place."""

    def __init__(self, folder: Path) -> None:
        self.photo, self.backup = write(folder / "photo.jpg", b"the original"), folder / "kept/photo.jpg"
        self.photo.chmod(0o604)
        os.utime(self.photo, ns=(0, 10**18 + 1))
        self.original = Original(self.photo, read_whole(self.photo), b"the original")
        self.recorded = 0

    def __call__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        def record() -> None:
            self.recorded += 1
            meanwhile()

        put_in_place(self.original, b"restored", self.backup, record=record, owner="all")


def test_a_photo_is_replaced_once_its_original_is_safe(tmp_path: Path) -> None:
    commit = Commit(tmp_path)
    commit(lambda: commit.backup.read_bytes() == b"the original" or pytest.fail("no backup before the intent"))
    assert commit.photo.read_bytes() == b"restored"
    assert commit.backup.read_bytes() == b"the original"
    for path in (commit.photo, commit.backup):
        assert (path.stat().st_mode & 0o777, path.stat().st_mtime_ns) == (0o604, 10**18 + 1)


def test_a_photo_that_is_done_again_keeps_the_backup_it_had(tmp_path: Path) -> None:
    commit = Commit(tmp_path)
    commit()
    commit.original = Original(commit.photo, read_whole(commit.photo), b"the original")
    commit()
    assert commit.recorded == 2
    assert commit.photo.read_bytes() == b"restored"
    assert commit.backup.read_bytes() == b"the original"


@pytest.mark.parametrize(
    "harm",
    [
        lambda c: c.backup.unlink(),
        lambda c: c.backup.write_bytes(b"another"),
        lambda c: (c.backup.unlink(), c.backup.symlink_to(c.photo)),
        lambda c: (c.backup.unlink(), c.backup.hardlink_to(c.photo)),
        lambda c: (c.backup.unlink(), os.mkfifo(c.backup)),
    ],
    ids=["gone", "changed", "link", "hard link", "pipe"],
)
def test_a_backup_that_is_not_the_original_stops_the_rename(tmp_path: Path, harm: Callable[[Commit], object]) -> None:
    commit = Commit(tmp_path)
    with pytest.raises((BackupUnfit, SourceIsLink)):
        commit(lambda: harm(commit))
    assert commit.photo.read_bytes() == b"the original"
    assert not list(tmp_path.glob(".codiff-batch-*"))


def test_the_commit_sees_through_a_second_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mounts of one share: no number of the system's says that the backup, or the output, is the photo."""
    (tmp_path / "again").symlink_to(tmp_path)
    monkeypatch.setattr(outputs, "key_of", lambda path: None)
    commit = Commit(tmp_path)
    commit.backup = tmp_path / "again/photo.jpg"
    with pytest.raises(BackupUnfit, match="the photo itself"):
        commit()
    monkeypatch.setattr(outputs, "same_file", lambda one, other: same_file(one, other) and "again" not in one.parts)
    with pytest.raises(OutputExists, match="the photo itself"):
        put_output(commit.backup, b"new", commit.original, ours=frozenset(), overwrite=True, owner="all")
    assert commit.photo.read_bytes() == b"the original"
    put_output(
        commit.backup.with_suffix(".png"), b"new", commit.original, ours=frozenset(), overwrite=True, owner="all"
    )


def edit_that_keeps_size_and_times(photo: Path) -> None:
    found = photo.stat()
    with photo.open("r+b") as file:
        file.write(b"THE")
    os.utime(photo, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("when", ["before the backup", "before the rename"])
@pytest.mark.parametrize("change_times", [True, False], ids=["ext4", "FAT"])
def test_an_edit_that_keeps_size_and_times_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, change_times: bool
) -> None:
    if not change_times:
        of = Stamp.of
        monkeypatch.setattr(Stamp, "of", lambda found: replace(of(found), ctime_ns=0))
    commit = Commit(tmp_path)
    if when == "before the backup":
        edit_that_keeps_size_and_times(commit.photo)
        with pytest.raises(SourceChanged):
            commit()
        assert commit.recorded == 0
    else:
        with pytest.raises(SourceChanged):
            commit(lambda: edit_that_keeps_size_and_times(commit.photo))
    assert commit.photo.read_bytes() == b"THE original"


def test_a_photo_that_was_only_touched_is_still_the_photo(tmp_path: Path) -> None:
    commit = Commit(tmp_path)
    commit(lambda: os.utime(commit.photo))
    assert commit.photo.read_bytes() == b"restored"


@pytest.mark.parametrize("name", ["link.jpg", "other.jpg"])
def test_a_photo_that_became_a_link_is_left_alone(tmp_path: Path, name: str) -> None:
    commit = Commit(tmp_path)

    def exchange() -> None:
        if name == "other.jpg":
            (tmp_path / name).hardlink_to(commit.photo)
        else:
            target = commit.photo.rename(tmp_path / name)
            commit.photo.symlink_to(target)

    with pytest.raises(SourceIsLink):
        commit(exchange)
    assert (tmp_path / name).read_bytes() == b"the original"


def test_an_output_never_replaces_what_is_not_ours_nor_the_photo_itself(tmp_path: Path) -> None:
    photo, output = write(tmp_path / "a.jpg", b"photo"), write(tmp_path / "out/a.jpg", b"somebody's")
    original = Original(photo, read_whole(photo), b"photo")
    with pytest.raises(OutputExists):
        put_output(output, b"new", original, ours=frozenset({"0" * 64}), overwrite=False, owner="all")
    with pytest.raises(OutputExists):
        put_output(photo, b"new", original, ours=frozenset(), overwrite=True, owner="all")
    (tmp_path / "out/b.jpg").symlink_to(photo)
    with pytest.raises(OutputExists):
        put_output(tmp_path / "out/b.jpg", b"new", original, ours=frozenset(), overwrite=True, owner="all")
    (tmp_path / "out/c.jpg").symlink_to(write(tmp_path / "theirs.jpg", b"ours"))
    with pytest.raises(OutputExists):
        put_output(
            tmp_path / "out/c.jpg", b"new", original, ours=frozenset({sha256(b"ours")}), overwrite=False, owner="all"
        )
    assert (photo.read_bytes(), output.read_bytes()) == (b"photo", b"somebody's")
    ours = frozenset({read_whole(output).sha256})
    put_output(output, b"new", original, ours=ours, overwrite=False, owner="all")
    assert output.read_bytes() == b"new"


def test_an_output_never_replaces_an_original_of_an_earlier_run(tmp_path: Path) -> None:
    photo, kept = write(tmp_path / "a.jpg", b"photo"), write(tmp_path / "kept/trip/a.jpg", b"an original")
    claim(tmp_path / "kept", Holds.BACKUPS)
    with pytest.raises(OutputExists):
        put_output(
            kept, b"new", Original(photo, read_whole(photo), b"photo"), ours=frozenset(), overwrite=True, owner="all"
        )
    assert kept.read_bytes() == b"an original"


def test_a_file_that_appears_at_the_last_moment_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, output = write(tmp_path / "a.jpg", b"photo"), tmp_path / "out/a.jpg"
    write_atomically = outputs.write_atomically

    def appears(path: Path, data: bytes, *, guard: Callable[[Path], None], **options: object) -> None:
        write_atomically(path, data, guard=lambda own: (guard(own), write(output, b"somebody's"))[0], **options)  # type: ignore[arg-type]

    monkeypatch.setattr(outputs, "write_atomically", appears)
    with pytest.raises(OutputExists):
        put_output(
            output, b"new", Original(photo, read_whole(photo), b"photo"), ours=frozenset(), overwrite=True, owner="all"
        )
    assert output.read_bytes() == b"somebody's"


def test_an_output_that_is_edited_while_a_new_one_is_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, output = write(tmp_path / "a.jpg", b"photo"), write(tmp_path / "out/a.jpg", b"ours")
    original = Original(photo, read_whole(photo), b"photo")
    ours = frozenset({read_whole(output).sha256})
    write_atomically = outputs.write_atomically

    def edited_meanwhile(path: Path, data: bytes, **options: object) -> None:
        output.write_bytes(b"edited by hand")
        write_atomically(path, data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(outputs, "write_atomically", edited_meanwhile)
    with pytest.raises(OutputExists):
        put_output(output, b"new", original, ours=ours, overwrite=False, owner="all")
    assert output.read_bytes() == b"edited by hand"


def test_a_source_that_changed_is_not_written_out(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"photo")
    original = Original(photo, read_whole(photo), b"photo")
    photo.write_bytes(b"other")
    with pytest.raises(PhotoError, match="changed"):
        put_output(tmp_path / "out/a.jpg", b"new", original, ours=frozenset(), overwrite=False, owner="all")
    assert not (tmp_path / "out/a.jpg").exists()


def test_a_source_that_was_only_touched_is_written_out_also_where_a_link_names_it(tmp_path: Path) -> None:
    photo, link = write(tmp_path / "a.jpg", b"photo"), tmp_path / "link.jpg"
    link.symlink_to(photo)
    original = Original(link, read_whole(link), b"photo")
    os.utime(photo)
    put_output(tmp_path / "out/a.jpg", b"new", original, ours=frozenset(), overwrite=False, owner="all")
    assert (tmp_path / "out/a.jpg").read_bytes() == b"new"


def test_an_output_is_like_its_source_and_replaces_whatever_the_user_lets_it(tmp_path: Path) -> None:
    photo, output = write(tmp_path / "a.jpg", b"photo"), write(tmp_path / "out/a.jpg", b"somebody's")
    photo.chmod(0o640)
    os.utime(photo, ns=(0, 10**18 + 1))
    original = Original(photo, read_whole(photo), b"photo")
    put_output(output, b"new", original, ours=frozenset(), overwrite=True, owner="all")
    assert output.read_bytes() == b"new"
    assert (output.stat().st_mode & 0o777, output.stat().st_mtime_ns) == (0o640, 10**18 + 1)


def test_a_photo_that_is_gone_is_said_to_have_changed(tmp_path: Path) -> None:
    commit = Commit(tmp_path)
    commit.photo.unlink()
    with pytest.raises(SourceChanged, match="No such file"):
        commit()
    with pytest.raises(SourceChanged, match="No such file"):
        put_output(tmp_path / "out/a.jpg", b"new", commit.original, ours=frozenset(), overwrite=False, owner="all")
    assert not list(tmp_path.iterdir())


def test_every_half_written_file_carries_the_name_of_whose_run_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run of that owner removes what a killed one left, of outputs and of backups."""
    fsync, seen = os.fsync, set()

    def noted(handle: int) -> None:
        seen.update((path.parent.name, path.name[:21]) for path in tmp_path.rglob(".codiff-batch-*.tmp"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    commit = Commit(tmp_path / "photos")
    put_output(tmp_path / "out/a.jpg", b"new", commit.original, ours=frozenset(), overwrite=False, owner="1-of-2")
    put_in_place(commit.original, b"restored", commit.backup, record=lambda: None, owner="1-of-2")
    assert seen == {(folder, ".codiff-batch-1-of-2-") for folder in ("out", "kept", "photos")}
