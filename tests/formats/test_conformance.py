"""The corpus through every output format, read back by programs that are not ours; and the table in docs/metadata.md.

Sizes, pixels, profiles, densities and every metadata value are compared. What a container does not carry is not
written down by hand: the table is what this test has seen. ``CODIFF_WRITE_DOCS=1 pytest`` writes it again.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from codiff_batch.errors import PhotoError
from codiff_batch.formats import Order, encode, formats, refuse
from codiff_batch.jpeg import JpegPhoto
from tests.formats import reading
from tests.jpeg.samples import NOTE, decodable

FORMATS = formats()

pytestmark = pytest.mark.xdist_group("conformance")  # one process writes the files that all look at
DOCS = Path(__file__).resolve().parents[2] / "docs/metadata.md"
START, END = "<!-- carried: written by tests/formats/test_conformance.py -->\n", "<!-- end of carried -->"
PIXELS = 120_000
"""Larger photos of the corpus are left out: they cost minutes and carry nothing else."""
FEWEST = 250
"""Photos that must be left, so that the test cannot pass by looking at nothing."""

TINY = 10_000
"""Samples; of smaller fuzzed pictures most is noise."""
LARGEST_ERROR = {"jpeg": 8.0, "webp": 16.0, "avif": 8.0, "jxl": 8.0}
"""Levels, root mean square, at quality 95; WebP halves the chroma's sides. The others are lossless."""

CONTAINER = {
    *("ImageWidth", "ImageHeight", "BitsPerSample", "Compression", "PhotometricInterpretation", "SamplesPerPixel"),
    *("StripOffsets", "StripByteCounts", "RowsPerStrip", "PlanarConfiguration", "SubfileType", "FillOrder"),
    *("YCbCrPositioning", "YCbCrCoefficients", "YCbCrSubSampling", "ReferenceBlackWhite", "TileWidth", "TileLength"),
    *("ThumbnailOffset", "PreviewImageStart", "OtherImageStart", "JpgFromRawStart", "ExifByteOrder"),
    *("MPImageStart", "MPImageLength", "OtherImageLength"),
}
"""What describes the source's container, and where in it something lies."""

POINTERS = (
    "HasExtendedXMP",
    "Directory",
    "MicroVideo",
    "MotionPhoto",
    "Version",
    "GainMap",
    "HDRCapacity",
    "Provenance",
)
POINTING = ("XMP-xmpNote", "XMP-Container", "XMP-GContainer", "XMP-hdrgm", "XMP-GCamera", "XMP-dcterms")

ROWS = (
    "EXIF: camera, dates, Orientation ...",
    "EXIF: position",
    "EXIF: Interoperability",
    "EXIF: maker notes",
    "EXIF: embedded thumbnail",
    "XMP, extended XMP joined in",
    "IPTC",
    "Photoshop's resources",
    "ICC profile",
    "comments",
    "density (JFIF)",
    "multi-picture index, pictures and video behind the image, other makers' segments",
)


DENSITY = ROWS[10]


@dataclass(frozen=True)
class Sample:
    """One photo of the corpus."""

    number: int
    photo: JpegPhoto
    pixels: NDArray[np.uint8]


@pytest.fixture(scope="module")
def folder(corpus: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance")


@pytest.fixture(scope="module")
def samples(corpus: list[Path], folder: Path) -> list[Sample]:
    (folder / "source").mkdir()
    found = []
    for number, (photo, pixels) in enumerate(decodable(corpus)):
        try:
            refuse(photo, "jpeg", Order(NOTE))
        except PhotoError:
            continue  # Signed, or with an index that cannot be moved: skipped or failed before the work.
        if photo.header.width * photo.header.height <= PIXELS:
            (folder / f"source/{number}.jpg").write_bytes(photo.data)
            found.append(Sample(number, photo, pixels))
    assert len(found) > FEWEST
    return found


@pytest.fixture(scope="module")
def sources(samples: list[Sample], folder: Path) -> dict[str, dict[str, Any]]:
    reading.require("exiftool")
    return reading.exiftool(folder / "source")


@pytest.fixture(scope="module", params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not FORMATS[name].is_installed:
        pytest.skip(f"{name} is not installed")
    reading.require("exiftool", reading.decoder_of(name)[0])
    return name


@pytest.fixture(scope="module")
def outputs(name: str, samples: list[Sample], folder: Path) -> dict[int, Path]:
    (folder / name).mkdir(exist_ok=True)
    suffix = FORMATS[name].suffix

    def write(sample: Sample) -> tuple[int, Path]:
        path = folder / name / f"{sample.number}{suffix}"
        path.write_bytes(encode(sample.pixels, sample.photo, name, Order(NOTE)))
        return sample.number, path

    with ThreadPoolExecutor(2) as threads:
        return dict(threads.map(write, samples))


@pytest.mark.slow
def test_others_decode_the_same_pixels_with_a_profile_of_their_kind(
    name: str, samples: list[Sample], outputs: dict[int, Path], folder: Path
) -> None:
    images, wrong = reading.decoded(list(outputs.values()), name, folder / f"{name} decoded"), []
    for sample in samples:
        image = images[str(sample.number)]
        profile = image.info.get("icc_profile")
        if profile and profile[16:20] != (b"GRAY" if image.mode in ("L", "LA") else b"RGB "):
            wrong.append(f"{sample.photo.path}: a {profile[16:20]} profile on {image.mode}")
        expected = upright(sample) if name == "jxl" else sample.pixels
        expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
        shown = np.asarray(image.convert("RGB"))
        if shown.shape != expected.shape:
            wrong.append(f"{sample.photo.path}: {shown.shape}, not {expected.shape}")
            continue
        limit = LARGEST_ERROR.get(name, 0.0) * (1 if expected.size > TINY else 10)
        if (error := reading.rms(shown, expected)) > limit:
            wrong.append(f"{sample.photo.path}: {error:.1f} levels")
    assert not wrong


def upright(sample: Sample) -> NDArray[np.uint8]:
    """JPEG XL's pixels are turned, by Pillow's reading of the orientation here."""
    from PIL import ImageOps

    image = Image.fromarray(sample.pixels)
    image.getexif()[0x0112] = sample.photo.metadata().orientation or 1
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiff"], indirect=True)
def test_libtiff_opens_one_page_of_the_right_size(samples: list[Sample], outputs: dict[int, Path]) -> None:
    reading.require("tiffinfo")
    for sample in samples:
        command = ["tiffinfo", str(outputs[sample.number])]
        ran = subprocess.run(command, capture_output=True, errors="replace", check=False)
        assert ran.returncode == 0 and "Error" not in ran.stderr, sample.photo.path
        assert ran.stdout.count("=== TIFF directory") == 1, sample.photo.path
        height, width = sample.pixels.shape[:2]
        assert f"Image Width: {width} Image Length: {height}" in ran.stdout, sample.photo.path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jpeg", "png", "tiff"], indirect=True)
def test_libvips_reads_the_same_density(
    name: str, samples: list[Sample], outputs: dict[int, Path], folder: Path
) -> None:
    reading.require("vipsheader")
    stated = [s for s in samples if has_unit(s.photo)]
    before = reading.densities([folder / f"source/{s.number}.jpg" for s in stated])
    after = reading.densities([outputs[s.number] for s in stated])
    assert len(before) > 80
    wrong = {key: (value, after[key]) for key, value in before.items() if not np.allclose(value, after[key], rtol=2e-3)}
    assert not wrong


def has_unit(photo: JpegPhoto) -> bool:
    jfif = [s.payload for s in photo.structure.metadata if s.is_jfif and len(s.payload) >= 14]
    return bool(jfif) and jfif[0][7] in (1, 2) and min(jfif[0][9], jfif[0][11]) > 9  # Less is a fuzzer's.


@pytest.mark.slow
def test_every_value_is_there_again_or_the_docs_say_that_it_is_not(
    name: str, samples: list[Sample], outputs: dict[int, Path], sources: dict[str, dict[str, Any]], folder: Path
) -> None:
    after = reading.exiftool(folder / name)
    held, kept, lost = Counter[str](), Counter[str](), []
    for number in outputs:
        output = after[str(number)]
        assert "ExifTool:Error" not in output, sources[str(number)]["SourceFile"]
        for key, value in sources[str(number)].items():
            row = row_of(key)
            if row is None or (row == DENSITY and not sources[str(number)].get("JFIF:ResolutionUnit")):
                continue
            held[row] += 1
            same = value == output.get(key) or found_elsewhere(key, value, output)
            kept[row] += same
            if not same:
                lost.append(f"{number} {key}: {value!r:.60} -> {output.get(key)!r:.60}")
    assert set(held) == set(ROWS)
    column = {row: cell(kept[row], held[row]) for row in ROWS}
    if FORMATS[name].keeps_source_bytes:
        assert set(column.values()) == {"yes"}, lost[:10]
    gray = {s.number for s in samples if s.pixels.ndim == 2}
    for number in outputs:
        space = after[str(number)].get("ICC_Profile:ICC-header:ColorSpaceData")
        if space is not None and not FORMATS[name].keeps_source_bytes:
            assert space.strip() == ("GRAY" if number in gray and name != "webp" else "RGB"), number
    if name == "jxl":
        column["ICC profile"] = "yes, unless damaged"  # It lies in the coded picture; the pixels' test reads it there.
    agree_with_docs(name, column)


def row_of(key: str) -> str | None:
    """The table's row of a value; None for what describes the container or this machine's file."""
    if ":" not in key:
        return None
    family, group, tag = key.split(":")[0], key.split(":")[-2], key.split(":")[-1]  # Equal groups are written once.
    if tag in CONTAINER or (family in ("File", "ExifTool", "Composite", "System") and tag != "Comment"):
        return None
    if group in POINTING and any(word in tag for word in POINTERS):
        return None
    if family == "EXIF":
        by_group = {"GPS": ROWS[1], "InteropIFD": ROWS[2], "IFD1": ROWS[4]}
        return by_group.get(group, ROWS[0])
    if family == "APP14":
        return None
    by_family = {
        "MakerNotes": ROWS[3],
        "XMP": ROWS[5],
        "IPTC": ROWS[6],
        "Photoshop": ROWS[7],
        "ICC_Profile": ROWS[8],
        "File": ROWS[9],
        "JFIF": ROWS[10],
    }
    if family == "JFIF" and tag not in ("XResolution", "YResolution", "ResolutionUnit"):
        return None
    return by_family.get(family, ROWS[11])


def found_elsewhere(key: str, value: Any, output: dict[str, Any]) -> bool:
    """Return True if a value stands under the name that the other container has for it."""
    tag = key.split(":")[-1]
    if tag == "Comment":
        shown = (output.get("PNG:Comment"), output.get("EXIF:IFD0:ImageDescription"))
        return any(str(value).strip("\0 ") in str(text) for text in shown if text)
    if tag == "Orientation":
        return output.get(key) == 1 and output["File:FileType"] == "JXL"  # The pixels were turned.
    if tag == "ImageDescription" and not str(value).strip():
        return True
    if key.startswith("JFIF"):
        return "PNG:PNG-pHYs:PixelsPerUnitX" in output or "EXIF:IFD0:XResolution" in output
    return False


def cell(kept: int, held: int) -> str:
    share = kept / held
    return (
        "yes"
        if share == 1
        else "nearly all"
        if share > 0.98
        else "most"
        if share > 0.5
        else "some"
        if share > 0.05
        else "no"
    )


def agree_with_docs(name: str, column: dict[str, str]) -> None:
    """Compare one column with the table in the docs, or write it there."""
    text = DOCS.read_text(encoding="utf-8")
    start, end = text.index(START) + len(START), text.index(END)
    lines = text[start:end].strip().splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in (lines[:1] + lines[2:])]
    table = {row[0]: dict(zip(cells[0][1:], row[1:], strict=True)) for row in cells[1:]} if lines else {}
    title = FORMATS[name].title
    if os.environ.get("CODIFF_WRITE_DOCS"):
        for row in ROWS:
            table.setdefault(row, {})[title] = column[row]
        titles = [f.title for f in FORMATS.values()]
        rows = [[row, *(table[row].get(t, "") for t in titles)] for row in ROWS]
        written = [["", *titles], ["---"] * (len(titles) + 1), *rows]
        body = "\n".join(f"| {' | '.join(row)} |" for row in written)
        DOCS.write_text(text[:start] + body + "\n" + text[end:], encoding="utf-8")
        return
    assert {row: table[row][title] for row in table} == column
