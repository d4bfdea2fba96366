"""An empty mount point is not taken for the disk that belongs there."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from codiff_batch.batch import marks
from codiff_batch.batch.marks import Holds, check_present, claim, is_marked, tried
from codiff_batch.errors import FolderUnavailable, OptionsConflict
from tests import warm
from tests.batch.test_originals import in_mounts_of_its_own
from tests.cli.test_restore import tree
from tests.photos import jpeg, scene, write
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for index in range(2):
        write(tmp_path / f"photos/{index}.jpg", jpeg(15, image=scene(seed=index)))
    monkeypatch.chdir(tmp_path)
    return Path("photos")


@pytest.mark.slow
def test_originals_never_go_to_the_mount_point_of_a_disk_that_is_away(photos: Path, model: Path) -> None:
    Path("usb").mkdir()
    Path("disk").mkdir()
    program = f"codiff-batch --in-place --backup usb/kept --model {model}"
    script = f"""
        mount -t tmpfs none usb; {program} photos/0.jpg || exit 10
        cp -r usb/kept disk; umount usb
        {program} photos; echo "away: $?"
        ls -A usb
        mount -t tmpfs none usb; cp -r disk/kept usb
        {program} photos; echo "back: $?"
        codiff-batch undo usb/kept; echo "undone: $?"
    """
    before = tree(photos)
    ran = in_mounts_of_its_own(script)
    assert ran.stdout == "away: 4\nback: 0\nundone: 0\n"
    assert "is its disk mounted?" in ran.stderr
    assert "2 originals put back, 0 failed" in ran.stderr
    assert {name: what[0] for name, what in tree(photos).items()} == {name: what[0] for name, what in before.items()}


@pytest.mark.slow
def test_originals_never_go_to_another_disk_at_the_same_place(photos: Path, model: Path) -> None:
    Path("usb").mkdir()
    program = f"codiff-batch --in-place --backup usb/kept --model {model}"
    script = f"""
        mount -t tmpfs none usb; mkdir usb/music; {program} photos/0.jpg || exit 10
        rm -r usb/kept; {program} photos/0.jpg --again; echo "deleted: $?"
        umount usb; mount -t tmpfs none usb; mkdir usb/music
        {program} photos/1.jpg; echo "another disk: $?"
        ls -A usb
    """
    before = tree(photos)["1.jpg"]
    ran = in_mounts_of_its_own(script)
    assert ran.stdout == "deleted: 0\nanother disk: 4\nmusic\n"
    assert "is its disk mounted?" in ran.stderr
    assert tree(photos)["1.jpg"] == before


@pytest.mark.slow
@pytest.mark.parametrize("place", ["--in-place --backup kept", "-o kept"])
@pytest.mark.parametrize(
    "stray", [[], [".DS_Store", "lost+found/.keep", "another disk's/photo.jpg"]], ids=["empty", "stray"]
)
def test_a_folder_that_comes_back_without_its_mark_is_refused_until_the_user_says_so(
    run, photos: Path, model: Path, place: str, stray: list[str]
) -> None:
    arguments = (photos / "0.jpg", *place.split(), "--model", model)
    assert run(*arguments).code == 0
    shutil.rmtree("kept")
    Path("kept").mkdir()
    for name in stray:
        write(Path("kept") / name, b"")
    before = tree(Path())
    ran = run(photos, *arguments[1:])
    assert ran.code == 4
    assert ran.err.count("\n") == 1
    assert "is its disk mounted?" in ran.err
    assert tree(Path()) == before
    assert run(photos, *arguments[1:], "--new-backup").code == 0


@pytest.mark.slow
def test_a_folder_is_known_whatever_way_it_is_spelt(run, photos: Path, model: Path) -> None:
    run(photos / "0.jpg", "-o", "kept", "--model", model)
    shutil.rmtree("kept")
    Path("kept").mkdir()
    Path("link").symlink_to("kept")
    for spelt in (Path("kept").resolve(), Path("link"), Path("photos/../kept")):
        ran = run(photos, "-o", spelt, "--model", model)
        assert ran.code == 4
        assert "is its disk mounted?" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "empty", "a list", "of nothing we know", "without a name"])
def test_a_folder_that_lost_its_mark_is_known_by_its_journal(run, photos: Path, model: Path, damage: str) -> None:
    outputs = (photos, "-o", "out", "--model", model)
    run(*outputs)
    run(photos / "0.jpg", "--in-place", "--backup", "kept", "--model", model)
    harm = {"empty": b"", "a list": b"[]", "of nothing we know": b'{"id": "1", "holds": "x"}', "without a name": b"{}"}
    for folder in ("out", "kept"):
        mark = Path(folder, ".codiff-batch/mark.json")
        mark.unlink() if damage == "gone" else mark.write_bytes(harm[damage])
    assert "untouched originals of earlier runs" in run("kept", "-o", "more", "--model", model).err
    assert run("out", "-o", "more", "--model", model).code == 2
    assert "0 restored, 1 skipped" in run(photos / "1.jpg", *outputs[1:]).err
    assert "holds outputs" in run(photos, "--in-place", "--backup", "out", "--model", model).err


@pytest.mark.slow
def test_an_output_folder_that_was_deleted_is_made_again(run, photos: Path, model: Path) -> None:
    run(photos, "--model", model)
    shutil.rmtree("photos-restored")
    assert "2 restored" in run(photos, "--model", model).err


@pytest.mark.slow
def test_a_folder_holds_outputs_or_backups_never_both(run, photos: Path, model: Path) -> None:
    run(photos, "-o", "kept", "--model", model)
    ran = run(photos, "--in-place", "--backup", "kept", "--model", model)
    assert ran.code == 2
    assert "holds outputs of earlier runs" in ran.err


@pytest.mark.slow
def test_without_a_state_directory_the_program_works_as_well(run, photos: Path, model: Path, monkeypatch) -> None:
    write(Path("file"), b"")
    monkeypatch.setenv("XDG_STATE_HOME", "file")
    assert run(photos, "--model", model).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("mark", ["pipe", "device", "bomb"])
def test_whatever_lies_where_a_mark_would_be_holds_nobody_up(photos: Path, model: Path, mark: str) -> None:
    place = Path(".codiff-batch/mark.json")
    place.parent.mkdir()
    match mark:
        case "pipe":
            os.mkfifo(place)
        case "device":
            place.symlink_to("/dev/zero")
        case "bomb":
            place.write_text("[" * 100_000)
    command = [*warm.program(), "photos", "--dry-run", "--model", str(model)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr.split(":")[0]) == (0, "2 photos")


@pytest.mark.parametrize("record", ["", "[]", "null", "{}", '{"mount": "/"}', '{"mount": 1, "disk": 2}', "\udcff"])
def test_what_is_remembered_of_a_folder_and_makes_no_sense_is_forgotten(tmp_path: Path, record: str) -> None:
    folder = tmp_path / "out"
    claim(folder, Holds.OUTPUTS)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(FolderUnavailable, match="is its disk mounted"):
        check_present(folder, new=False)
    marks._record(folder).write_bytes(os.fsencode(record))
    check_present(folder, new=False)


@pytest.mark.parametrize(("refusal", "stays"), [(OptionsConflict, False), (FolderUnavailable, True), (None, True)])
@pytest.mark.parametrize("known", [False, True])
def test_a_folder_that_is_refused_keeps_no_mark_that_it_did_not_have(
    tmp_path: Path, refusal: type[Exception] | None, stays: bool, known: bool
) -> None:
    folder = tmp_path / "out"
    if known:
        claim(folder, Holds.OUTPUTS)
    with contextlib.suppress(OptionsConflict, FolderUnavailable), tried(folder):
        claim(folder, Holds.OUTPUTS)
        if refusal is not None:
            raise refusal("no")
    assert is_marked(folder) is (known or stays)
    assert marks._record(folder).exists() is (known or stays)


def test_a_refusal_is_told_though_the_mark_is_gone_already(tmp_path: Path) -> None:
    with pytest.raises(OptionsConflict, match="no"), tried(tmp_path / "out"):
        raise OptionsConflict("no")
