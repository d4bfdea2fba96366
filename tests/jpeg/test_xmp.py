"""XMP packets: their encoding, what is joined, and what is taken out for other containers."""

from __future__ import annotations

import pytest

from codiff_batch.jpeg.xmp import decode, encoding_of, names_a_manifest, portable, without_manifest

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DCTERMS = 'xmlns:dcterms="http://purl.org/dc/terms/"'
GAIN_MAP = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'


def packet(attributes: str = "", properties: str = "", *, around: str = "") -> str:
    description = f'<rdf:Description {attributes} rdf:about="">{properties}</rdf:Description>'
    return f'<x xmlns="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}" {around}>{description}</rdf:RDF></x>'


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"\xff\xfe\0\0<\0\0\0", "utf-32-le"),
        (b"\0\0\xfe\xff\0\0\0<", "utf-32-be"),
        (b"\xff\xfe<\0", "utf-16-le"),
        (b"\xfe\xff\0<", "utf-16-be"),
        (b"<\0\0\0x\0\0\0", "utf-32-le"),
        (b"\0\0\0<\0\0\0x", "utf-32-be"),
        (b"<\0x\0", "utf-16-le"),
        (b"\0<\0x", "utf-16-be"),
        (b"\xef\xbb\xbf<x", "utf-8"),
        (b"<x>caf\xc3\xa9", "utf-8"),
        (b"<x>caf\xe9", "cp1252"),
    ],
)
def test_the_encoding_is_told_by_mark_zeros_or_sense(data: bytes, encoding: str) -> None:
    assert encoding_of(data) == encoding
    assert decode(data + "\0".encode(encoding)).startswith(("<", "<x"))
    assert not decode(data + "\0".encode(encoding)).endswith("\0")


@pytest.mark.parametrize(
    "words",
    [
        'dcterms:provenance="https://x/y"',
        "dcterms:provenance = 'https://x/y'",
        "><dcterms:provenance/><b/",
        "><dcterms:provenance rdf:resource='y'/><b/",
        "><dcterms:provenance>https://\n/y</dcterms:provenance ><b/",
    ],
)
def test_a_manifests_address_is_blanked_wherever_it_stands(words: str) -> None:
    text = f"<a {DCTERMS} kept='too' {words}>"
    assert names_a_manifest(text.encode())
    left = without_manifest(text.encode()).decode()
    assert not names_a_manifest(left.encode()) and len(left) == len(text)
    assert left.startswith(f"<a {DCTERMS} kept='too' ") and left.endswith(">")
    assert not left.removeprefix(f"<a {DCTERMS} kept='too' ").strip("<> b/")


@pytest.mark.parametrize(
    "data",
    [
        b'<a dcterms:provenance="not the namespace"/>',
        f'<a {DCTERMS} dcterms:created="2020"/>'.encode(),
        f'<a {DCTERMS} dcterms:provenances="y"/>'.encode(),
        b"<\0a",
        b"\xfe\xff\0<\xd8",
    ],
    ids=["another namespace", "another term", "a longer term", "odd", "half a pair"],
)
def test_a_packet_that_names_no_manifest_stays_as_it_is(data: bytes) -> None:
    assert not names_a_manifest(data)
    assert without_manifest(data) == data


def test_a_packet_without_pointers_travels_as_it_is() -> None:
    for text in ("<x/>", packet('xmlns:a="b" a:c="d"'), "<not xml", f"<x>{RDF}</x>"):
        assert portable(text.encode()) == text.encode()
        assert portable(f'<?xml version="1.0" encoding="utf-16"?>{text}'.encode("utf-16")) == text.encode()


@pytest.mark.parametrize(
    "namespace",
    [
        "http://ns.google.com/photos/1.0/container/",
        "http://ns.google.com/photos/1.0/container/item/",
        "http://ns.google.com/photos/dd/1.0/container/",
        "http://ns.google.com/photos/dd/1.0/item/",
        "http://ns.adobe.com/hdr-gain-map/1.0/",
        "http://ns.apple.com/HDRGainMap/1.0/",
    ],
)
def test_whatever_describes_pictures_behind_the_image_stays_behind(namespace: str) -> None:
    named = f'xmlns:p="{namespace}" xmlns:a="b" a:kept="1"'
    for text in (packet(f'{named} p:gone="1"'), packet(named, "\n<p:gone>1</p:gone>\n<a:more/>")):
        left = portable(text.encode()).decode()
        assert "gone" not in left and 'a:kept="1"' in left
        assert ("a:more" in left) is ("a:more" in text)
        # What cannot be read cannot be taken out of it.
        assert portable(text.replace("</x>", "").encode()) == b""


@pytest.mark.parametrize(
    ("namespace", "gone", "kept"),
    [
        ("http://ns.google.com/photos/1.0/camera/", "MicroVideoOffset", "SpecialTypeID"),
        ("http://ns.google.com/photos/1.0/camera/", "MotionPhoto", "BurstID"),
        ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP", "Else"),
        ("http://purl.org/dc/terms/", "provenance", "provenances"),
    ],
)
def test_of_some_namespaces_only_the_pointers_stay_behind(namespace: str, gone: str, kept: str) -> None:
    left = portable(packet(f'xmlns:p="{namespace}" p:{gone}="1" p:{kept}="2"').encode()).decode()
    assert f"p:{gone}=" not in left and f'p:{kept}="2"' in left


@pytest.mark.parametrize("words", ["http://ns.adobe.com/xmp/note/", "http://purl.org/dc/terms/", "MicroVideo"])
def test_a_broken_packet_that_may_hold_pointers_stays_behind(words: str) -> None:
    assert portable(f"<x>{words}".encode()) == b""


@pytest.mark.parametrize("encoding", ["nonsense", "hex", "shift_jis", "idna"])
def test_a_second_declaration_with_an_encoding_that_cannot_be_parsed_harms_nothing(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>{packet(GAIN_MAP)}'
    assert portable(f'<?xml version="1.0"?>{text}'.encode()) == b""
    harmless = f'<?xml version="1.0" encoding="{encoding}"?><x/>'
    assert portable(f'<?xml version="1.0"?>{harmless}'.encode()) == harmless.encode()


def test_a_packet_with_a_doctype_or_a_huge_one_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = packet(GAIN_MAP)
    assert portable(f"<!DOCTYPE x [<!ENTITY y 'z'>]>{text}".encode()) == b""
    monkeypatch.setattr("codiff_batch.jpeg.xmp._MAX_PARSED", len(text))
    assert b"rdf:Description" in portable(text.encode())
    assert portable(f" {text}".encode()) == b""


def test_a_changed_packet_is_marked_as_one_once() -> None:
    bare = packet(GAIN_MAP)
    begin, end = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>', '<?xpacket end="w"?>'
    for text in (bare, f"{begin}{bare}{end}"):
        left = portable(text.encode()).decode()
        assert left.startswith(begin) and left.endswith(end)
        assert left.count("<?xpacket") == 2


def test_an_extended_packet_is_joined_with_the_namespaces_around_it() -> None:
    standard = packet('xmlns:a="b" a:c="standard"').encode()
    inner = "<q:in><rdf:Description q:deep='1'/></q:in>"
    both = portable(
        standard, packet('q:d="extended" xmlns:s="near"', inner, around='xmlns:q="r" xmlns:s="far" q:rdf="1"').encode()
    ).decode()
    assert 'a:c="standard"' in both and 'xmlns:q="r"' in both and 'q:d="extended"' in both
    assert both.count("q:deep") == 1
    assert 'xmlns:s="near"' in both and "far" not in both and "q:rdf" not in both
    assert portable(both.encode()).decode() == both
    for nothing in (None, b"<broken", b"<x/>"):
        assert portable(standard, nothing) == standard
    assert portable(b"<x/>", standard) == b"<x/>"
