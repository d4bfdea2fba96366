"""When a file counts as whole, and when one that failed is tried again, by a clock that the test turns."""

from __future__ import annotations

import os
from pathlib import Path

from codiff_batch.watch.retries import FIRST_PAUSE, LONGEST_PAUSE, Retries, passes
from codiff_batch.watch.settling import Settling
from tests.photos import write


def test_a_file_is_ready_when_nobody_touched_it_for_a_while(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"x")
    settling = Settling(5)
    settling.touch(photo, 100)
    assert settling.ready(104.9) == []
    assert settling.ready(105) == [photo]
    assert settling.ready(200) == []


def test_growth_starts_the_wait_again_without_any_event(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"x")
    settling = Settling(5)
    settling.touch(photo, 100)
    photo.write_bytes(b"xx")
    assert settling.ready(106) == []
    assert settling.ready(110.9) == []
    assert settling.ready(111) == [photo]


def test_an_event_starts_the_wait_again_without_any_growth(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"x")
    settling = Settling(5)
    settling.touch(photo, 100)
    settling.touch(photo, 104)
    assert settling.ready(106) == []
    assert settling.ready(109) == [photo]


def test_what_is_gone_or_no_file_is_forgotten(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"x")
    os.mkfifo(tmp_path / "pipe.jpg")
    settling = Settling(0)
    settling.touch(photo, 100)
    settling.touch(tmp_path / "pipe.jpg", 100)
    settling.touch(tmp_path / "never.jpg", 100)
    photo.unlink()
    assert settling.ready(101) == []
    assert len(settling) == 0


def test_a_time_in_the_future_settles_like_any_other(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"x")
    os.utime(photo, (4e9, 4e9))
    settling = Settling(5)
    settling.touch(photo, 100)
    assert settling.ready(105) == [photo]


def test_being_found_again_does_not_start_the_wait_again(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"x")
    settling = Settling(5)
    for now in (100, 102, 104):  # scans come more often than files settle
        settling.found(photo, now)
        assert settling.ready(now) == []
    assert settling.ready(105) == [photo]


def test_pauses_grow_and_end_with_success() -> None:
    retries, now, pauses = Retries(), 0.0, []
    for _ in range(14):
        retries.failed(Path("a"), now)
        began = now
        while not retries.due(now):
            now += 1
        assert retries.due(now) == []
        pauses.append(now - began)
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    retries.settled(Path("a"))
    assert len(retries) == 0
    retries.settled(Path("never failed"))
    retries.failed(Path("a"), now)
    assert retries.due(now + FIRST_PAUSE) == [Path("a")]


def test_what_may_pass_is_told_from_what_stays() -> None:
    assert passes("cannot write x: No space left on device")
    assert passes("cannot be read: Permission denied")
    assert passes("out of memory on cpu, even for a single tile of 64x64 pixels")
    assert not passes("not a JPEG file, it is PNG")
    assert not passes("the file ends without an end-of-image marker; it is truncated")
    assert not passes("output already exists: a.jpg")
