"""The Restorer: the public door to a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from codiff_batch.engine import colour
from codiff_batch.engine.crops import textured_crops
from codiff_batch.engine.device import choose_device
from codiff_batch.engine.tiling import plan_tiles
from codiff_batch.errors import RestoreFailed
from codiff_batch.models.card import ModelCard
from codiff_batch.models.catalogue import DEFAULT_MODEL, find
from codiff_batch.models.loading import Networks, load_networks

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels: TypeAlias = NDArray[np.uint8]
Levels: TypeAlias = NDArray[np.float32]
Progress: TypeAlias = Callable[[int, int], None]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Restorer:
    """A model on a device, ready to judge and restore pictures.

    Not safe to call from two threads at once. The same input gives the same bytes on one device::

        from PIL import Image
        from codiff_batch import Restorer

        restorer = Restorer.load()
        restored = restorer.restore(Image.open("photo.jpg"))
        Image.fromarray(restored).save("restored.png")
    """

    def __init__(self, card: ModelCard, networks: Networks, device: torch.device, batch: int | None = None) -> None:
        self.card = card
        self._device = device
        # A CPU gains nothing from more than one tile at a time and would need the memory for them.
        self._batch = batch or (1 if device.type == "cpu" else 8)
        layout = {"memory_format": torch.channels_last}
        self._cave = networks.cave.to(device, **layout)  # type: ignore[call-overload]
        self._generator = networks.generator.to(device, **layout)  # type: ignore[call-overload]

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        device: str = "auto",
        *,
        models_dir: Path | None = None,
        batch: int | None = None,
    ) -> Restorer:
        """Load a model by name, or from a model folder given as a path.

        Args:
            model: a name that ``codiff-batch models list`` shows, or the path of a folder with a ``model.json``.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            models_dir: where installed models lie, instead of the user's data directory.
            batch: tiles that go through the networks together; 1 on a CPU and 8 elsewhere if not given.

        Raises:
            ModelNotFound, ModelDamaged: there is no such model, or its files are not what its card says.
            DeviceUnavailable: the machine has no such device.
        """
        chosen = choose_device(device)
        card, networks = load_networks(find(model, models_dir))
        return cls(card, networks, chosen, batch)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.card.name

    @property
    def device(self) -> str:
        """The device, as torch calls it."""
        return str(self._device)

    def estimate_qf(self, image: Pixels | Image) -> float:
        """Estimate the quality factor that a picture's pixels went through, 0..100.

        Args:
            image: uint8 (H, W, 3) RGB or (H, W) gray, or a Pillow image; stored as in the file, because the
                estimate reads the 8x8 grid from pixel (0, 0).

        Raises:
            ValueError: the array is not such a picture.
        """
        with torch.inference_mode():
            return float(self._embed(_as_pixels(image))[1])

    def restore(
        self,
        image: Pixels | Image,
        *,
        strength: float = 1.0,
        tables: Sequence[NDArray[np.uint16]] | None = None,
        progress: Progress | None = None,
    ) -> Pixels:
        """Restore a picture of any size; :meth:`restore_levels` rounded to 8 bits.

        Args:
            image: as for :meth:`estimate_qf`.
            strength: 0 gives the source, 1 the restoration, between them a blend.
            tables: the file's quantization tables in natural order, (8, 8) each, luma first, if they are known.
            progress: called with (tiles done, tiles in all) after each batch of tiles.

        Returns:
            uint8 of the picture's own shape, (H, W, 3) or (H, W).

        Raises:
            ValueError: the array is not a picture, or strength is outside 0..1.
            RestoreFailed: the network gave values that are not finite.
        """
        levels = self.restore_levels(image, strength=strength, tables=tables, progress=progress)
        return np.rint(levels, out=levels).astype(np.uint8)

    def restore_levels(
        self,
        image: Pixels | Image,
        *,
        strength: float = 1.0,
        tables: Sequence[NDArray[np.uint16]] | None = None,
        progress: Progress | None = None,
    ) -> Levels:
        """Like :meth:`restore`, but float32 in [0, 255] and not rounded, for further work such as the constraint."""
        pixels = _as_pixels(image)
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be between 0 and 1, not {strength}")
        deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        with torch.inference_mode(), deterministic:
            tokens, qf = self._embed(pixels)
            strength *= self._fade(float(qf))
            if strength == 0:
                return pixels.astype(np.float32)
            restored = self._restore_tiles(pixels, tokens, self._condition(tables), progress)
            self._correct_colour(restored, pixels)
        if not np.isfinite(restored).all():
            raise RestoreFailed(f"model {self.name!r} gave values that are not finite; the picture was not restored")
        if strength < 1:
            restored *= strength
            restored += (1 - strength) * pixels
        return np.clip(restored, 0, 255, out=restored)

    def _embed(self, pixels: Pixels) -> tuple[Tensor, Tensor]:
        """Tokens (1, K, D) of the photo's crops, and one quality factor for all of them."""
        crops = torch.cat([self._to_tensor(crop) for crop in textured_crops(pixels)])
        tokens, qf = self._cave(crops)
        return tokens.flatten(0, 1).unsqueeze(0), qf.mean()

    def _fade(self, qf: float) -> float:
        """Share of the restoration to keep for a picture of this estimated quality, 0..1; see the card's ``fade``."""
        start, end = self.card.fade
        return float(np.interp(qf, (start, end), (1, 0))) if end > start else 1.0

    def _condition(self, tables: Sequence[NDArray[np.uint16]] | None) -> dict[str, Tensor]:
        """What the generator is told beside the tokens."""
        if not (self.card.uses_tables and tables):
            return {}
        luma_and_chroma = np.stack((tables[0], tables[1] if len(tables) > 1 else tables[0])).astype(np.float32)
        return {"tables": torch.from_numpy(luma_and_chroma).unsqueeze(0).to(self._device)}

    def _restore_tiles(
        self, pixels: Pixels, tokens: Tensor, condition: dict[str, Tensor], progress: Progress | None
    ) -> Levels:
        """Restore tiles in batches and add each to one float picture with its blending weights."""
        card = self.card
        blended = np.zeros(pixels.shape, np.float32)
        height, width = pixels.shape[:2]
        tiles = list(plan_tiles(height, width, card.tile, card.overlap, card.multiple))
        for start in range(0, len(tiles), self._batch):
            batch = tiles[start : start + self._batch]
            parts = [pixels[tile.place] for tile in batch]
            for tile, restored in zip(batch, self._restore_batch(parts, tokens, condition), strict=True):
                weights = tile.weights if pixels.ndim == 3 else tile.weights[..., 0]
                blended[tile.place] += restored * weights
            if progress is not None:
                progress(start + len(batch), len(tiles))
        return blended

    def _restore_batch(self, parts: list[Pixels], tokens: Tensor, condition: dict[str, Tensor]) -> list[Levels]:
        """Restore tiles of one picture in one step, padded to the size the networks need and cropped back.

        Tiles start on the networks' multiple and differ by less than it in size, so they are equal when padded.
        """
        images = torch.cat([_pad_to_multiple(self._to_tensor(part), self.card.multiple) for part in parts])
        count = len(parts)
        condition = {name: value.expand(count, *value.shape[1:]) for name, value in condition.items()}
        restored = self._generator(images, tokens.expand(count, -1, -1), **condition)
        levels = restored.mul(255).permute(0, 2, 3, 1).float().cpu().numpy()
        cropped = [tile[: part.shape[0], : part.shape[1]] for tile, part in zip(levels, parts, strict=True)]
        return [tile if part.ndim == 3 else tile @ LUMA for tile, part in zip(cropped, parts, strict=True)]

    def _correct_colour(self, restored: Levels, pixels: Pixels) -> None:
        """Apply the card's colour fix over the whole picture, in place."""
        fix = {"adain": colour.adain, "wavelet": colour.wavelet}.get(self.card.colour_fix)
        if fix is None:
            return
        # One channel at a time: the correction needs a few float copies, and three channels need thrice that.
        for target, source in zip(_planes(restored), _planes(pixels), strict=True):
            corrected = fix(torch.from_numpy(target)[None, None], torch.from_numpy(source)[None, None].float())
            target[...] = corrected[0, 0].numpy()

    def _to_tensor(self, pixels: Pixels) -> Tensor:
        """uint8 (H, W, 3) or (H, W) -> float (1, 3, H, W) in [0, 1] on the device."""
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        tensor = torch.from_numpy(pixels.copy()).to(self._device)
        return tensor.permute(2, 0, 1).unsqueeze(0).float().div_(255)


def _as_pixels(image: Pixels | Image) -> Pixels:
    """Accept a Pillow image or an array; refuse what is not 8-bit RGB or gray."""
    if not isinstance(image, np.ndarray):
        image = np.asarray(image if image.mode in ("RGB", "L") else image.convert("RGB"))
    right_shape = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not right_shape or 0 in image.shape:
        raise ValueError(f"expected uint8 (H, W, 3) or (H, W) pixels, not {image.dtype} {image.shape}")
    return image


def _planes(picture: NDArray[Any]) -> list[NDArray[Any]]:
    """Views of the channels of (H, W, 3) or (H, W), each (H, W)."""
    return [picture] if picture.ndim == 2 else [picture[..., channel] for channel in range(picture.shape[2])]


def _pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad (1, 3, H, W) right and bottom by reflection, or by replication where a side is too short to reflect."""
    height, width = image.shape[-2:]
    pad_h, pad_w = -height % multiple, -width % multiple
    mode = "reflect" if pad_h < height and pad_w < width else "replicate"
    return F.pad(image, (0, pad_w, 0, pad_h), mode=mode)
