"""The JPEG file format: segments, tables, coefficients, metadata, decoding and encoding. No torch."""

from codiff_batch.jpeg.constrain import blocks_of, can_project, project_to_cells
from codiff_batch.jpeg.cut import cut
from codiff_batch.jpeg.encode import encode_jpeg, refuse_jpeg
from codiff_batch.jpeg.header import Component, Header
from codiff_batch.jpeg.metadata import MetadataSummary
from codiff_batch.jpeg.photo import DEFAULT_MAX_PIXELS, JpegPhoto
from codiff_batch.jpeg.segments import Segment, Structure

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Component",
    "Header",
    "JpegPhoto",
    "MetadataSummary",
    "Segment",
    "Structure",
    "blocks_of",
    "can_project",
    "cut",
    "encode_jpeg",
    "project_to_cells",
    "refuse_jpeg",
]
