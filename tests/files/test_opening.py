"""The one door to bytes from outside: it never waits for anybody, and takes regular files of a bounded size only."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from codiff_batch.errors import PhotoError, TooManyBytes
from codiff_batch.files import opening
from codiff_batch.files.opening import DEFAULT_MAX_BYTES, open_regular
from codiff_batch.files.reading import digest_of, read_whole
from codiff_batch.files.text import no_formula, printable
from codiff_batch.jpeg import JpegPhoto
from tests.photos import jpeg, write


def refused(path: Path, **limit: Any) -> str:
    began = time.monotonic()
    with pytest.raises(PhotoError) as caught:
        read_whole(path, **limit)
    assert time.monotonic() - began < 2
    return str(caught.value)


def test_a_file_is_read_whole_also_through_a_link(tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    photo = write(tmp_path / "a.jpg", data)
    (tmp_path / "link.jpg").symlink_to(photo)
    assert read_whole(photo).data == read_whole(tmp_path / "link.jpg").data == data
    assert "link" in refused(tmp_path / "link.jpg", follow=False)


def test_pipes_sockets_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "pipe" in refused(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.jpg"))
        assert "socket" in refused(tmp_path / "s.jpg")
    assert "device" in refused(Path("/dev/zero"))
    assert "folder" in refused(tmp_path)


def test_what_is_swapped_in_between_the_look_and_the_opening_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = write(tmp_path / "a.jpg", b"x")
    os.mkfifo(tmp_path / "pipe")
    original = opening._open

    def swap(path: Path, follow: bool) -> int:
        (tmp_path / "pipe").replace(photo)
        return original(path, follow)

    monkeypatch.setattr(opening, "_open", swap)
    assert "pipe" in refused(photo)


def test_a_sparse_giant_is_refused_before_a_byte_of_it_is_read(tmp_path: Path) -> None:
    photo = write(tmp_path / "giant.jpg", jpeg(20))
    os.truncate(photo, 1 << 40)
    assert "over the limit of 256 MB" in refused(photo, max_bytes=DEFAULT_MAX_BYTES)
    with pytest.raises(TooManyBytes, match="over the limit of 256 MB"):
        JpegPhoto.open(photo)


def test_a_giant_in_place_of_a_file_of_ours_is_not_read_either(tmp_path: Path) -> None:
    giant = write(tmp_path / "output.jpg", b"")
    os.truncate(giant, 1 << 42)
    with pytest.raises(PhotoError, match="over the limit") as refused:
        read_whole(giant)
    assert not isinstance(refused.value, TooManyBytes)  # Whose remedy is an option that changes nothing here.
    assert digest_of(giant) is None


def test_a_file_that_grows_while_it_is_read_stops_at_the_limit(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", bytes(10))
    with open_regular(photo, max_bytes=10) as file:
        photo.write_bytes(bytes(1000))
        with pytest.raises(OSError) as caught:
            opening.read_at_most(file, 10)
    assert caught.value.errno == errno.EFBIG


def test_reads_that_give_less_than_they_were_asked_for_go_on(tmp_path: Path) -> None:
    rest = list(b"abcdef")

    class Slow:
        def read(self, size: int) -> bytes:
            return bytes([rest.pop(0)]) if rest else b""

    assert opening.read_at_most(Slow(), 6) == b"abcdef"  # type: ignore[arg-type]


def test_a_file_that_a_server_has_lent_is_asked_back(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", b"lent")
    handle = os.open(photo, os.O_RDWR)
    earlier = signal.signal(signal.SIGIO, lambda *_: None)  # "give it back", which would end a process
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        os.close(handle)
        pytest.skip("this file system has no leases")
    threading.Timer(0.5, os.close, [handle]).start()
    assert read_whole(photo).data == b"lent"
    signal.signal(signal.SIGIO, earlier)


def test_a_name_with_a_nul_is_an_error_like_any_other(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="cannot be read"):
        JpegPhoto.open(tmp_path / "a\0.jpg")


def test_text_from_outside_is_one_line_without_control_characters() -> None:
    assert printable("a\nb\x1b[31m\udcff\u202e\u2028") == r"a\nb\x1b[31m\udcff\u202e\u2028"
    assert printable("\N{CAMERA} é") == "\N{CAMERA} é"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\r=1"])
def test_a_table_never_computes_what_a_file_says(text: str) -> None:
    assert no_formula(text) == "'" + text
    assert no_formula(f"p/{text}") == f"p/{text}"
