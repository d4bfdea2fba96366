"""Between ComfyUI and the engine: types of the wires, pictures across, and the engine where it is installed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import comfy.model_management
import numpy as np
import torch
from comfy_api.latest import io
from numpy.typing import NDArray

if TYPE_CHECKING:
    from codiff_batch.jpeg import JpegPhoto
    from codiff_batch.jpeg.header import Header
    from codiff_batch.models.card import ModelCard

JPEG = io.Custom("CODIFF_JPEG")
MODEL = io.Custom("CODIFF_MODEL")
CATEGORY = "image/CODiff"


@dataclasses.dataclass(frozen=True)
class JpegFile:
    """What travels on a CODIFF_JPEG wire: the file behind an image.

    Its bytes stay on disk until they are asked for, since there may be thousands in a list.
    """

    path: Path
    name: str
    """Path inside the folder that was loaded, without suffix: ``album/photo``."""
    header: Header
    stamp: tuple[int, ...]
    place: tuple[int, int] = (0, 1)
    """Which of how many photos of a list."""
    estimated_qf: float | None = None
    """CaVE's quality factor 0..100, once 'Estimate JPEG Quality' has looked."""

    @classmethod
    def open(cls, path: Path, name: str, place: tuple[int, int] = (0, 1)) -> JpegFile:
        """Read a file's header.

        Raises:
            CodiffError: it is not a JPEG that can be restored.
        """
        stamp = _stamp(path)
        return cls(path, str(Path(name).with_suffix("")), _opened(path, stamp).header, stamp, place)

    @property
    def photo(self) -> JpegPhoto:
        """Bytes, tables, sampling and metadata.

        Raises:
            ValueError: the file is not what it was when it was loaded.
        """
        if _stamp(self.path) != self.stamp:
            raise ValueError(f"{self.path.name} was changed since it was loaded; run the graph again.")
        return _opened(self.path, self.stamp)

    @property
    def tables(self) -> tuple[NDArray[np.uint16], ...]:
        """Quantization tables in natural order, (8, 8) each, luma first."""
        return self.header.tables

    @property
    def header_qf(self) -> float:
        """Quality factor 1..100 that fits the tables best."""
        return self.header.qf

    @property
    def orientation(self) -> int:
        """EXIF Orientation 1..8; the image on the other wire is as stored, not turned."""
        return self.photo.metadata().orientation or 1

    @property
    def exif(self) -> bytes | None:
        """The EXIF block, a TIFF structure, if there is one."""
        from codiff_batch.jpeg.metadata import exif_bytes

        return exif_bytes(self.photo.structure)

    @property
    def icc(self) -> bytes | None:
        """The colour profile, if there is one."""
        from codiff_batch.jpeg.metadata import icc_bytes

        return icc_bytes(self.photo.structure)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=2)
def _opened(path: Path, stamp: tuple[int, ...]) -> JpegPhoto:
    return engine().JpegPhoto.open(path)


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """What travels on a CODIFF_MODEL wire: a model in ComfyUI's hands."""

    card: ModelCard
    patcher: Any
    """A ModelPatcher around one module that holds CaVE and the generator."""
    precision: str = "auto"
    """Floats that they compute in, as codiff-batch calls them."""


def engine() -> ModuleType:
    """The package ``codiff_batch``.

    Raises:
        RuntimeError: it is not installed in ComfyUI's Python; says how to install it.
    """
    try:
        import codiff_batch.models.catalogue  # with what it needs itself
    except ImportError as error:
        clone = Path(__file__).resolve().parents[3]
        linked = (clone / "codiff_batch").is_dir()
        where = f'"{clone}"' if linked else "PATH-OF-THE-CLONE"
        hint = "" if linked else " (the folder with plugins/comfyui in it, from which this pack was copied)"
        raise RuntimeError(
            f"codiff-batch is not installed in ComfyUI's Python ({error}). Install it with: "
            f'"{sys.executable}" -m pip install {where}{hint}'
        ) from None
    return codiff_batch


@contextlib.contextmanager
def in_its_own_words(about: str = "") -> Iterator[None]:
    """Turn the engine's errors into ones that ComfyUI shows as a sentence, begun with what they are about."""
    package = engine()
    try:
        yield
    except package.CodiffError as error:
        raise ValueError(f"{about}{error}") from None
    except OSError as error:
        raise ValueError(f"{about}{error.strerror or error}") from None


def aliases(*words: str) -> dict[str, Any]:
    """Further words under which the search finds a node, where this ComfyUI knows the field."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return {"search_aliases": list(words)} if "search_aliases" in known else {}


def to_pixels(image: torch.Tensor) -> NDArray[np.uint8]:
    """(H, W, C) in [0, 1] with 1, 3 or 4 channels -> uint8 (H, W, 3), alpha left out.

    Raises:
        ValueError: another number of channels.
    """
    if image.shape[2] not in (1, 3, 4):
        raise ValueError(f"An image has 1, 3 or 4 channels, not {image.shape[2]}.")
    levels = image[..., :3].clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
    return np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else np.ascontiguousarray(levels)


def to_image(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (H, W, 3) or (H, W) -> (1, H, W, 3) in [0, 1], where ComfyUI wants images between nodes."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    image = torch.from_numpy(pixels.astype(np.float32) / 255)[None]
    return image.to(comfy.model_management.intermediate_device())


def changed(image: torch.Tensor, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> torch.Tensor:
    """(H, W, C) with the change between two 8-bit pictures (H, W, 3) added; returns (1, H, W, 3 or 4).

    What is finer than a level or brighter than white stays, and so does alpha. Where the image has whole levels, the
    result has them too, bit for bit.
    """
    colour = image[..., :3].expand(-1, -1, 3)
    old, new = (to_image(pixels)[0].to(colour.device) for pixels in (before, after))
    result = torch.where(colour == old, new, colour + (new - old))
    return torch.cat([result, image[..., 3:]], dim=2)[None] if image.shape[2] == 4 else result[None]


def from_a_loader(jpeg: object) -> None:
    """Check that what is on a CODIFF_JPEG wire is one: a program's prompt may hold anything in its place.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(jpeg, JpegFile):
        raise ValueError("The input 'jpeg' takes a file from 'Load JPEG (CODiff)', not a value.")


def only_image(image: torch.Tensor, jpeg: JpegFile | None) -> None:
    """Check that a CODIFF_JPEG can belong to an image.

    Raises:
        ValueError: it is none, the batch has several images, or the sizes differ.
    """
    if jpeg is None:
        return
    from_a_loader(jpeg)
    if image.shape[0] > 1:
        raise ValueError(
            f"The image input holds {image.shape[0]} images, but a CODIFF_JPEG is the file of one. Use 'Load JPEG "
            "Folder', which sends photos one by one, or leave 'jpeg' unconnected."
        )
    header = jpeg.header
    height, width = image.shape[1:3]
    if (height, width) != (header.height, header.width):
        raise ValueError(
            f"The image is {width}x{height} pixels, but its CODIFF_JPEG {header.width}x{header.height}. Restore before "
            "resizing or cropping, or leave 'jpeg' unconnected."
        )


def own_pixels(image: torch.Tensor, jpeg: JpegFile) -> NDArray[np.uint8] | None:
    """The file's decoded pixels, gray as (H, W), if the image still is what the file holds; else None."""
    pixels = jpeg.photo.pixels()
    as_shown = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    return pixels if np.array_equal(to_pixels(image[0]), as_shown) else None
