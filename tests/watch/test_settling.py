"""When a file counts as whole, by a clock that the test turns."""

from __future__ import annotations

import os
from pathlib import Path

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
