"""A new journal tells of the same photos as the one that was lost, and of none that it cannot be sure of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from codiff_batch.batch.journal import Journal, journal_path, journals_in
from codiff_batch.batch.journals import locked
from codiff_batch.batch.ledger import read_ledger
from codiff_batch.batch.marks import Holds, claim, read_mark
from codiff_batch.batch.outcome import Code, Kind
from codiff_batch.batch.rebuild import UNFINISHED, rebuild
from codiff_batch.batch.rows import Made, Standing
from codiff_batch.errors import FolderLocked, FolderUnavailable, OptionsConflict
from codiff_batch.files.identity import MARK_FOLDER
from codiff_batch.files.reading import sha256
from codiff_batch.jpeg.note import marked
from codiff_batch.jpeg.segments import parse
from tests.faults.nobody import as_nobody, folder_for_all, needs_permissions
from tests.jpeg.samples import with_segments
from tests.photos import jpeg, scene, write

ORIGINALS = {
    name: jpeg(15, image=scene(48, 48, seed=seed)) for seed, name in enumerate(("a.jpg", "b.jpg", "trip/c.jpg"))
}


def restored(original: bytes, *, source: bool = True) -> bytes:
    """What a run would have made of a photo, as far as its note tells; early versions named no source."""
    coded = jpeg(90, image=scene(48, 48, seed=len(original)))
    told = f" source={sha256(original)[:16]}" if source else ""
    return with_segments(coded, marked(f"codiff-batch 7.8 model=my tiny qf=15{told}", parse(coded)))


RESTORED = {name: restored(data) for name, data in ORIGINALS.items()}


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        write(folder / name, data)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos that were restored in place."""
    return lay(tmp_path / "photos", RESTORED)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Their originals, in a folder whose journal is lost."""
    claim(lay(tmp_path / "kept", ORIGINALS), Holds.BACKUPS)
    return tmp_path / "kept"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Photos that were not touched."""
    return lay(tmp_path / "library", ORIGINALS)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Their outputs, in a folder whose journal is lost."""
    claim(lay(tmp_path / "out", RESTORED), Holds.OUTPUTS)
    return tmp_path / "out"


def test_a_rebuild_that_is_cut_off_leaves_the_journal_as_it_was(kept: Path, photos: Path, tmp_path: Path) -> None:
    """Or the next one would take the little that is in the new journal for all that there was."""
    assert set(told(kept, photos).values()) == {(Kind.RESTORED, Code.DONE_BEFORE)}
    whole = read_ledger(kept).standing
    (photos / "b.jpg").rename(tmp_path / "away.jpg")
    for steps in range(4):
        again = rebuild(kept, [photos])
        for _ in range(steps):
            next(again)
        killed = shutil.copytree(kept, tmp_path / f"killed{steps}")
        again.close()
        for folder in (kept, killed):
            assert read_ledger(folder).standing.keys() == whole.keys()
        assert {kind for kind, _ in told(killed, photos).values()} == {Kind.RESTORED, Kind.FAILED}
        assert read_ledger(killed).standing.keys() == whole.keys()
        assert not list((killed / MARK_FOLDER).glob(f"{UNFINISHED}*"))


def test_what_a_rebuild_that_was_cut_off_had_noted_is_forgotten(kept: Path, photos: Path, tmp_path: Path) -> None:
    again = rebuild(kept, [photos])
    next(again)
    killed = shutil.copytree(kept, tmp_path / "killed")
    again.close()
    (killed / "a.jpg").unlink()
    assert set(told(killed, photos)) == {"b.jpg", "c.jpg"}
    assert Path("a.jpg") not in read_ledger(killed).standing


def told(folder: Path, *photos: Path) -> dict[str, tuple[Kind, str]]:
    """What became of each file: of the photo in its name, relative to where it was found."""
    return {outcome.source.name: (outcome.outcome, outcome.code) for outcome in rebuild(folder, photos)}


def test_a_new_journal_of_backups_knows_all_that_undo_has_to_know(photos: Path, kept: Path) -> None:
    found = {outcome.source: outcome for outcome in rebuild(kept, [photos])}
    assert set(found) == {photos / name for name in ORIGINALS}
    for name in ORIGINALS:
        outcome, standing = found[photos / name], read_ledger(kept).standing[Path(name)]
        assert (outcome.outcome, outcome.code, outcome.output) == (Kind.RESTORED, Code.DONE_BEFORE, photos / name)
        assert (standing.source, standing.in_place) == (photos / name, True)
        assert (standing.original, standing.sha256) == (sha256(ORIGINALS[name]), sha256(RESTORED[name]))
        assert standing.made == Made("?", "my tiny", program="7.8")
        assert standing.source_below == Path("../photos", name)


def test_a_new_journal_of_outputs_knows_what_stands(library: Path, out: Path) -> None:
    assert [outcome.output for outcome in rebuild(out, [library])] == [out / name for name in ORIGINALS]
    for name, standing in read_ledger(out).standing.items():
        assert (standing.source, standing.in_place) == (library / name, False)
        assert (standing.original, standing.sha256) == (sha256(ORIGINALS[str(name)]), sha256(RESTORED[str(name)]))


def test_making_a_journal_is_a_run_that_ended_and_names_the_folders_of_the_runs_before(
    photos: Path, kept: Path, tmp_path: Path
) -> None:
    before = Journal(journal_path(kept, "all"))
    before.begin("tiny@1", 3, [tmp_path / "earlier"])
    before.close()
    list(rebuild(kept, [photos]))
    ledger = read_ledger(kept)
    assert set(ledger.roots) == {photos, tmp_path / "earlier"}
    (run,) = ledger.runs
    assert (run.run.model, run.run.photos, run.run.ended is not None) == ("rebuilt", 3, True)
    assert [path.name for path in journals_in(kept)] == ["journal-all.sqlite"]
    assert list((kept / MARK_FOLDER).glob("journal-all.sqlite.before-*"))


def test_what_an_earlier_journal_says_of_a_photo_that_is_not_found_stays_and_nothing_else_does(
    photos: Path, kept: Path
) -> None:
    before = Journal(journal_path(kept, "all"))
    for name in ORIGINALS:
        before.stand(Standing(Path(name), photos / name, True, "12", "34"))
    before.close()
    (photos / "a.jpg").unlink()
    write(photos / "b.jpg", jpeg(80))
    assert told(kept, photos) == {
        "a.jpg": (Kind.FAILED, "photo-missing"),
        "b.jpg": (Kind.SKIPPED, "nothing-stands"),
        "c.jpg": (Kind.RESTORED, Code.DONE_BEFORE),
    }
    standing = {str(place): row.original for place, row in read_ledger(kept).standing.items()}
    assert standing == {"a.jpg": "12", "trip/c.jpg": sha256(ORIGINALS["trip/c.jpg"])}


@pytest.mark.parametrize("which", ["photos", "library"])
def test_each_file_that_is_no_more_than_a_file_says_why(
    photos: Path, kept: Path, library: Path, out: Path, which: str
) -> None:
    folder, beside = (kept, photos) if which == "photos" else (out, library)
    other = restored(jpeg(30))
    write(beside / "a.jpg" if which == "photos" else folder / "a.jpg", other)
    write(beside / "b.jpg" if which == "photos" else folder / "b.jpg", b"no photo")
    reasons = [outcome.reason for outcome in rebuild(folder, [beside])]
    if which == "photos":
        assert reasons == [f"was not made from {photos / 'a.jpg'}", "the photo is not restored", "found again"]
    else:
        assert reasons == [f"was not made from {library / 'a.jpg'}", "is not an output", "found again"]
    assert set(read_ledger(folder).standing) == {Path("trip/c.jpg")}


def test_what_early_versions_made_names_no_photo_and_is_believed(photos: Path, kept: Path) -> None:
    write(photos / "a.jpg", restored(ORIGINALS["a.jpg"], source=False))
    assert told(kept, photos)["a.jpg"] == (Kind.RESTORED, Code.DONE_BEFORE)


def test_a_backup_is_of_the_photo_of_the_very_same_name(photos: Path, kept: Path) -> None:
    """Another photo would get its bytes from ``undo``."""
    (photos / "a.jpg").unlink()
    write(photos / "a.jpeg", restored(jpeg(30), source=False))
    assert told(kept, photos)["a.jpg"] == (Kind.FAILED, "photo-missing")
    assert told(kept, photos / "a.jpeg")["a.jpg"] == (Kind.FAILED, "photo-missing")


def test_an_output_may_have_another_ending_than_its_photo(library: Path, out: Path) -> None:
    (library / "a.jpg").rename(library / "a.jpeg")
    (library / "trip/c.jpg").rename(library / "trip/c.jfif")
    found = {outcome.source for outcome in rebuild(out, [library])}
    assert found == {library / "a.jpeg", library / "b.jpg", library / "trip/c.jfif"}


def test_photos_may_be_named_one_by_one_and_several_folders_have_a_branch_each(
    library: Path, out: Path, tmp_path: Path
) -> None:
    for name in ORIGINALS:
        (out / name).rename(write(out / "library" / name, b""))
    write(out / "single.jpg", restored(jpeg(30)))
    single = write(tmp_path / "elsewhere/single.jpeg", jpeg(30))
    (tmp_path / "empty").mkdir()
    found = [outcome.source for outcome in rebuild(out, [tmp_path / "empty", single, library])]
    assert found == [*(library / name for name in ORIGINALS), single]


def test_only_photos_of_our_own_are_looked_at(photos: Path, kept: Path) -> None:
    (kept / "a.jpg").rename(kept / ".a.jpg")
    (kept / "b.jpg").rename(kept / "b.txt")
    (kept / "link.jpg").symlink_to("trip/c.jpg")
    (kept / "folder.jpg").mkdir()
    (kept / ".thumbnails").mkdir()
    write(kept / ".thumbnails/a.jpg", ORIGINALS["a.jpg"])
    assert set(told(kept, photos)) == {"c.jpg"}


@pytest.mark.parametrize("change", ["gone", "a link"])
def test_a_file_that_changes_meanwhile_fails_alone(photos: Path, kept: Path, change: str) -> None:
    found = rebuild(kept, [photos])
    assert next(found).outcome is Kind.RESTORED
    (kept / "b.jpg").unlink()
    if change == "a link":
        (kept / "b.jpg").symlink_to(write(kept / "b.txt", ORIGINALS["b.jpg"]))
    failed, last = found
    assert (failed.source, failed.outcome, failed.code) == (kept / "b.jpg", Kind.FAILED, "photo-error")
    assert "cannot be read" in failed.reason
    assert last.outcome is Kind.RESTORED


@pytest.mark.parametrize("journal", ["none", "damaged"])
@pytest.mark.parametrize("holds", Holds)
def test_what_a_folder_holds_is_seen_from_its_files_where_its_mark_is_lost(
    photos: Path, kept: Path, library: Path, out: Path, holds: Holds, journal: str
) -> None:
    folder, beside = (kept, photos) if holds is Holds.BACKUPS else (out, library)
    write(folder / "0.jpg", b"no photo")
    (folder / MARK_FOLDER / "mark.json").unlink()
    if journal == "damaged":
        write(journal_path(folder, "all"), b"no journal" * 1000)
    assert [outcome.outcome for outcome in rebuild(folder, [beside])] == [Kind.FAILED, *3 * [Kind.RESTORED]]
    mark = read_mark(folder)
    assert mark is not None
    assert mark.id
    assert mark.holds is holds


@needs_permissions
def test_a_file_that_may_not_be_read_does_not_decide_what_a_folder_holds() -> None:
    with folder_for_all() as above:
        out, library = lay(above / "out", RESTORED), lay(above / "library", ORIGINALS)
        (out / MARK_FOLDER).mkdir()
        for path in (out, *out.rglob("*")):
            path.chmod(0o777)
        (out / "a.jpg").chmod(0)
        with as_nobody():
            failed, *others = rebuild(out, [library])
    assert (failed.outcome, failed.reason) == (Kind.FAILED, "cannot be read: Permission denied")
    assert [outcome.output for outcome in others] == [out / "b.jpg", out / "trip/c.jpg"]


def test_originals_that_were_restored_before_they_were_kept_are_still_originals(tmp_path: Path) -> None:
    """As a second backup folder has them after ``--again``."""
    first = restored(ORIGINALS["a.jpg"])
    kept, photo = write(tmp_path / "kept/a.jpg", first).parent, write(tmp_path / "photos/a.jpg", restored(first))
    (kept / MARK_FOLDER).mkdir()
    assert [outcome.outcome for outcome in rebuild(kept, [photo.parent])] == [Kind.RESTORED]
    assert read_ledger(kept).standing[Path("a.jpg")].in_place


@pytest.mark.parametrize("source", [True, False])
def test_outputs_of_photos_that_were_restored_in_place_before_are_outputs(tmp_path: Path, source: bool) -> None:
    """As ``--again`` makes them beside such photos."""
    photo = write(tmp_path / "photos/a.jpg", restored(ORIGINALS["a.jpg"], source=source))
    out = write(tmp_path / "out/a.jpg", restored(photo.read_bytes())).parent
    (out / MARK_FOLDER).mkdir()
    assert [outcome.outcome for outcome in rebuild(out, [photo.parent])] == [Kind.RESTORED]
    assert not read_ledger(out).standing[Path("a.jpg")].in_place


def test_copies_of_good_photos_do_not_make_backups_of_an_output_folder(library: Path, tmp_path: Path) -> None:
    claim(lay(tmp_path / "out", ORIGINALS), Holds.OUTPUTS)
    assert {code for _, code in told(tmp_path / "out", library).values()} == {"nothing-stands"}


def test_a_journal_in_which_nothing_stands_does_not_make_outputs_of_originals(photos: Path, kept: Path) -> None:
    (kept / MARK_FOLDER / "mark.json").unlink()
    Journal(journal_path(kept, "all")).close()
    assert {kind for kind, _ in told(kept, photos).values()} == {Kind.RESTORED}
    assert read_ledger(kept).standing[Path("a.jpg")].in_place


def test_a_journal_that_can_be_read_tells_backups_from_outputs_better_than_the_files(tmp_path: Path) -> None:
    kept, photo = write(tmp_path / "kept/a.jpg", RESTORED["a.jpg"]).parent, write(tmp_path / "photos/a.jpg", b"edited")
    before = Journal(journal_path(kept, "all"))
    before.stand(Standing(Path("a.jpg"), photo, True, "12", "34"))
    before.close()
    list(rebuild(kept, [photo.parent]))
    mark = read_mark(kept)
    assert mark is not None
    assert mark.holds is Holds.BACKUPS


def test_what_is_not_ours_or_is_in_use_is_refused(photos: Path, kept: Path) -> None:
    with pytest.raises(FolderUnavailable, match="is not an output or backup folder"):
        list(rebuild(photos, [photos]))
    with pytest.raises(OptionsConflict, match="name the folders"):
        list(rebuild(kept, []))
    Journal(journal_path(kept, "2-of-3")).close()
    for owner in ("all", "2-of-3"):
        with locked(kept, owner), pytest.raises(FolderLocked):
            list(rebuild(kept, [photos]))
    assert not (photos / MARK_FOLDER).exists()
