"""Marker codes of JPEG (ITU-T T.81, Table B.1); each is the byte that follows 0xFF."""

SOI, EOI, SOS, DQT, DHT, DRI, DNL, TEM, COM, DAC = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xDC, 0x01, 0xFE, 0xCC
APP0, APP1, APP2, APP11, APP13, APP14 = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE

RESTARTS = range(0xD0, 0xD8)
APPS = range(0xE0, 0xF0)

STANDALONE = {SOI, EOI, TEM, *RESTARTS}
"""Markers without a length and payload."""

FRAMES = {
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC9: "arithmetic",
    0xCA: "arithmetic progressive",
}
"""Start-of-frame markers whose coding processes are handled."""

REFUSED_FRAMES = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical progressive",
    0xC7: "hierarchical lossless",
    0xCB: "lossless arithmetic",
    0xCD: "hierarchical arithmetic",
    0xCE: "hierarchical arithmetic progressive",
    0xCF: "hierarchical lossless arithmetic",
    0xDE: "hierarchical",
    0xF7: "JPEG-LS",
}
"""Frames of valid JPEG kinds that are refused, with the name for the message."""
