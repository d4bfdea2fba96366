"""The corpus of odd JPEGs, for these tests too."""

from tests.jpeg.conftest import corpus

__all__ = ["corpus"]
