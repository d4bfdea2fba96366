"""Tests inside real hosts, which are fetched once into a folder and kept there."""
