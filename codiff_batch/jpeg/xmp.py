"""XMP packets: their encoding is found, they are joined, and pointers to what is not carried over are removed.

A JPEG may hold its XMP in UTF-8, UTF-16 or UTF-32 (XMP part 3, 1.1.3), and what does not fit 64 KB in numbered parts
of an extended packet. Other containers want one packet in UTF-8.
"""

from __future__ import annotations

import re
from xml.dom import minidom
from xml.dom.minidom import Document, Element
from xml.parsers.expat import ExpatError

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_NOTE = "http://ns.adobe.com/xmp/note/"
_DCTERMS = "http://purl.org/dc/terms/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"

_POINTER_NAMESPACES = {
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.google.com/photos/dd/1.0/container/",
    "http://ns.google.com/photos/dd/1.0/item/",
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
}
"""Properties that describe pictures and videos after the image in a JPEG."""

_POINTERS = {
    _CAMERA: re.compile("MicroVideo|MotionPhoto"),
    _NOTE: re.compile("HasExtendedXMP"),
    _DCTERMS: re.compile("provenance$"),
}
"""Single properties of that kind: a video, an extended packet, a manifest that signed the source's bytes."""

_MARKS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_ZEROS = {"x000": "utf-32-le", "000x": "utf-32-be", "x0x0": "utf-16-le", "0x0x": "utf-16-be"}

_DECLARATION = re.compile(r"^\s*<\?xml\s[^>]*\?>")
"""It may name an encoding that is no longer used."""

_MAX_PARSED = 16 << 20
"""Bytes; a larger packet is carried or left as it is."""


def encoding_of(packet: bytes) -> str:
    """The encoding of a packet, by its byte order mark or by where its first characters have zeros."""
    for mark, name in _MARKS:
        if packet.startswith(mark):
            return name
    if (by_zeros := _ZEROS.get("".join("x" if byte else "0" for byte in packet[:4]))) is not None:
        return by_zeros
    try:
        packet.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"  # Not allowed, but it occurs; no other one-byte encoding is as likely.
    return "utf-8"


def decode(packet: bytes) -> str:
    """A packet's text, in whatever encoding it is."""
    return packet.decode(encoding_of(packet), "replace").lstrip("\ufeff").rstrip("\0")


def names_a_manifest(packet: bytes) -> bool:
    """Return True if the packet says where a C2PA manifest is kept that signed the file (C2PA 2.1, 11.4)."""
    text = decode(packet)
    pattern = _provenance(text)
    return pattern is not None and pattern.search(text) is not None


def without_manifest(packet: bytes) -> bytes:
    """The packet with the manifest's address blanked by spaces; its length and everything else stay."""
    encoding = encoding_of(packet)
    try:
        text = packet.decode(encoding)
    except UnicodeError:
        return packet
    pattern, space = _provenance(text), " ".encode(encoding)
    if pattern is None:
        return packet
    return pattern.sub(lambda found: " " * (len(found[0].encode(encoding)) // len(space)), text).encode(encoding)


def _provenance(text: str) -> re.Pattern[str] | None:
    """Finds ``dcterms:provenance`` as an attribute or an element, under whatever prefix this packet gives it."""
    declared = re.search(rf"""xmlns:([\w.-]+)\s*=\s*["']{re.escape(_DCTERMS)}["']""", text)
    if declared is None:
        return None
    name = f"{re.escape(declared[1])}:provenance"
    kinds = rf"""\b{name}\s*=\s*(?:"[^"]*"|'[^']*')|<{name}\b[^>]*/>|<{name}\b[^>]*>.*?</{name}\s*>"""
    return re.compile(kinds, re.DOTALL)


def portable(packet: bytes, extended: bytes | None = None) -> bytes:
    """One packet in UTF-8 for another container: extended properties joined in, pointers taken out.

    A packet that cannot be parsed travels as text, unless it holds such pointers: then it stays behind (empty bytes).

    Args:
        packet: the standard packet.
        extended: the extended one, put together from its parts, if it is whole.
    """
    text = _DECLARATION.sub("", decode(packet))
    tree = _parse(text)
    if tree is None:
        named = any(uri in text for uri in (*_POINTER_NAMESPACES, _NOTE, _DCTERMS)) or "MicroVideo" in text
        return b"" if named else text.encode("utf-8", "replace")
    more = _parse(_DECLARATION.sub("", decode(extended))) if extended else None
    changed = more is not None and _join(tree, more)
    if _take_out_pointers(tree) or changed:
        body = "".join(node.toxml() for node in tree.childNodes)
        return _in_packet(body).encode("utf-8")
    return text.encode("utf-8")


def _in_packet(body: str) -> str:
    if "<?xpacket" in body:
        return body
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{body}<?xpacket end="w"?>'


def _parse(text: str) -> Document | None:
    """Parse a packet; None if it is not XML, is too large, or has a DOCTYPE, where entities would be defined."""
    if len(text) > _MAX_PARSED or "<!DOCTYPE" in text:
        return None
    try:
        return minidom.parseString(text.strip().encode("utf-8"))
    except (ExpatError, ValueError, LookupError, AttributeError):  # Of unknown encodings, for instance.
        return None


def _join(tree: Document, more: Document) -> bool:
    """Put the descriptions of the extended packet into the standard one's RDF."""
    ours, theirs = (t.getElementsByTagNameNS(_RDF, "RDF") for t in (tree, more))
    if not ours or not theirs:
        return False
    for description in list(theirs[0].getElementsByTagNameNS(_RDF, "Description")):
        if description.parentNode is theirs[0]:
            _declare_namespaces(description)
            ours[0].appendChild(tree.importNode(description, True))
    return True


def _declare_namespaces(element: Element) -> None:
    """Repeat on an element the namespaces that its ancestors declare."""
    ancestor = element.parentNode
    while isinstance(ancestor, Element):
        for name, value in ancestor.attributes.items():
            if name.startswith("xmlns") and not element.hasAttribute(name):
                element.setAttributeNS("http://www.w3.org/2000/xmlns/", name, value)
        ancestor = ancestor.parentNode


def _take_out_pointers(tree: Document) -> bool:
    """Remove properties that point to what is not carried over; return True if there were any."""
    found = False
    for description in tree.getElementsByTagNameNS(_RDF, "Description"):
        for attribute in list(description.attributes.values()):
            if _is_pointer(attribute.namespaceURI, attribute.localName):
                description.removeAttributeNode(attribute)
                found = True
        for child in list(description.childNodes):
            if isinstance(child, Element) and _is_pointer(child.namespaceURI, child.localName):
                description.removeChild(child)
                found = True
    return found


def _is_pointer(namespace: str | None, name: str | None) -> bool:
    pattern = _POINTERS.get(namespace or "")
    return namespace in _POINTER_NAMESPACES or bool(pattern and pattern.match(name or ""))
