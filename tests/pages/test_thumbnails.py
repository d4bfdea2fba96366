"""Thumbnails show what was accepted as a photo, and nothing that is wrong with a file costs the page."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codiff_batch.batch.outcome import Kind, Outcome
from codiff_batch.batch.scan import scan
from codiff_batch.pages.report_page import Row, write_page
from codiff_batch.pages.thumbnails import make_thumbnails
from tests.photos import jpeg, scene, write

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"


def records(page: Path) -> list[dict[str, Any]]:
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert data is not None
    return json.loads(data.group(1))


def with_exif(tiff: bytes) -> bytes:
    payload, data = b"Exif\0\0" + tiff, jpeg(20)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]


def turned(kind: int, value: bytes, *more: bytes) -> bytes:
    """An EXIF block with an Orientation of that type, and further entries."""
    entries = [struct.pack("<HHI", 0x112, kind, 1) + value.ljust(4, b"\0"), *more]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + b"\0" * 4


DAMAGED = {
    "no TIFF": b"XX*\0\0\0\0\x08",
    "cut short": b"II*\0\x08",
    "text for an orientation": turned(2, b"6"),
    "a far EXIF pointer": turned(3, b"\6", struct.pack("<HHII", 0x8769, 4, 1, 0xFFFFFFF0)),
    "a resolution in letters": turned(3, b"\6", struct.pack("<HHI4s", 0x011A, 2, 4, b"abc\0")),
    "negative values": turned(3, b"\6", struct.pack("<HHIhh", 0x0102, 8, 2, -5, -5)),
    "a count of millions": turned(3, b"\6", struct.pack("<HHII", 0x9286, 7, 0x7FFFFFFF, 8)),
}


@pytest.mark.parametrize("tiff", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_exif_costs_nothing(tmp_path: Path, tiff: bytes) -> None:
    photo = write(tmp_path / "a.jpg", with_exif(tiff))
    made = make_thumbnails(tmp_path, "0", photo, None)
    assert made.before is not None
    with Image.open(tmp_path / made.before) as picture:
        assert sorted(picture.size) == [64, 96]


@pytest.mark.parametrize("outcome", [Kind.FAILED, Kind.SKIPPED])
def test_no_other_reader_sees_a_file_that_is_called_like_a_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Kind
) -> None:
    """An EPS would start Ghostscript; a PNG may be a bomb."""
    ghostscript = write(tmp_path / "bin/gs", f"#!/bin/sh\necho ran >> {tmp_path}/log\n".encode())
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(ghostscript.parent), prepend=os.pathsep)
    eps, png = write(tmp_path / "a.jpg", EPS), tmp_path / "b.jpg"
    scene().save(png, "PNG")
    rows = [Row.of(Outcome(path, None, outcome, "not a JPEG file")) for path in (eps, png)]
    write_page(tmp_path / "page.html", rows)
    assert [record["small"] for record in records(tmp_path / "page.html")] == [[None, None]] * 2
    assert not (tmp_path / "log").exists()


def test_a_refused_file_is_not_given_to_the_browser_either(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", jpeg(20))
    refused = Row.of(Outcome(photo, None, Kind.FAILED, "over the limit of 1 megapixels"))
    failed_later = Row.of(Outcome(photo, None, Kind.FAILED, "no space", header_qf=20, width=96, height=64))
    write_page(tmp_path / "page.html", [refused, failed_later])
    first, second = records(tmp_path / "page.html")
    assert (first["before"], first["small"][0]) == (None, None)
    assert second["before"] == "a.jpg"
    assert second["small"][0] is not None


def test_a_pipe_in_a_photos_place_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert make_thumbnails(tmp_path, "0", tmp_path / "a.jpg", None).before is None


def test_a_later_scan_takes_no_thumbnail(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.jpg", jpeg(20))
    write_page(tmp_path / "report.html", [Row.of(Outcome(photo, None, Kind.SKIPPED, "good already", header_qf=20))])
    assert len(list((tmp_path / "report-files").iterdir())) == 1
    assert [found.path for found in scan([tmp_path])] == [photo]


def test_a_page_removes_no_photo_that_is_called_like_a_thumbnail(tmp_path: Path) -> None:
    photo = write(tmp_path / "compared-files/000001-before.jpg", jpeg(20))
    earlier = write(tmp_path / "compared-files/000007-after.webp", b"of an earlier page")
    write_page(tmp_path / "compared.html", [Row.of(Outcome(photo, None, Kind.SKIPPED, "good", header_qf=20))])
    assert (photo.exists(), earlier.exists()) == (True, False)


def test_outputs_in_other_formats_are_shown_and_compared(tmp_path: Path) -> None:
    photo, after = write(tmp_path / "a.jpg", jpeg(20, image=scene(600, 400))), tmp_path / "a.png"
    Image.open(photo).point(lambda level: min(255, level + 10)).save(after)
    made = make_thumbnails(tmp_path, "0", photo, after)
    assert made.after is not None
    assert made.change == pytest.approx(10, abs=1.5)
    other = write(tmp_path / "b.jpg", jpeg(20, image=scene(100, 900)))
    assert make_thumbnails(tmp_path, "1", photo, other).change is None


def test_both_are_turned_as_the_camera_was(tmp_path: Path) -> None:
    data = with_exif(turned(3, b"\6"))
    photo, after = write(tmp_path / "a.jpg", data), tmp_path / "a.png"
    Image.open(photo).save(after)
    made = make_thumbnails(tmp_path, "0", photo, after)
    for name in (made.before, made.after):
        with Image.open(tmp_path / str(name)) as picture:
            assert picture.size == (64, 96)
    stored = np.asarray(Image.open(photo).convert("L").rotate(-90, expand=True), int)
    with Image.open(tmp_path / str(made.before)) as picture:
        assert np.abs(np.asarray(picture.convert("L"), int) - stored).mean() < 6


def test_without_room_for_thumbnails_the_page_is_written_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "page-files").write_text("a file where the folder would be")
    photo = write(tmp_path / "a.jpg", jpeg(20))
    write_page(tmp_path / "page.html", [Row.of(Outcome(photo, None, Kind.SKIPPED, "good", header_qf=20))])
    (record,) = records(tmp_path / "page.html")
    assert record["small"] == [None, None]
    assert (tmp_path / "page-files").read_text().startswith("a file")


def test_names_and_reasons_of_any_bytes_are_shown(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n\x1b[31m.jpg")
    write_page(tmp_path / "page.html", [Row.of(Outcome(tmp_path / name, None, Kind.FAILED, f"no {name}\ud800"))])
    (record,) = records(tmp_path / "page.html")
    assert record["name"] == "caf\\udce9\\n\\x1b[31m.jpg"
    assert record["reason"].isprintable()
