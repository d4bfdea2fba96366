"""The networks on their device: arrays in, arrays out, one step at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from codiff_batch.engine.memory import give_back, is_out_of_memory
from codiff_batch.engine.stream import Levels, Pixels, Waiting
from codiff_batch.errors import RestoreFailed
from codiff_batch.models.card import ModelCard
from codiff_batch.models.loading import Networks

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

MIRRORINGS: tuple[tuple[int, ...], ...] = ((), (-1, -2), (-1,), (-2,))
"""Views of a tile by the axes they are mirrored along; the first two cover both axes."""

T = TypeVar("T")


class NetworkRunner:
    """CaVE and the generator of one model."""

    def __init__(self, networks: Networks, device: torch.device, card: ModelCard) -> None:
        self.device = device
        self.busy_seconds = 0.0
        """Time spent in the networks so far, transfers included."""
        self._name, self._multiple, self._views = card.name, card.multiple, card.views
        layout = {"memory_format": torch.channels_last}
        self._cave = networks.cave.to(device, **layout)  # type: ignore[call-overload]
        self._generator = networks.generator.to(device, **layout)  # type: ignore[call-overload]

    def look(self, crops: Sequence[Pixels]) -> tuple[Tensor, Tensor] | None:
        """CaVE's tokens (B, K, D) and quality factors (B,) of crops of one size; None if memory ran out."""

        def step() -> tuple[Tensor, Tensor]:
            tokens, qf = self._cave(torch.cat([self._to_tensor(crop) for crop in crops]))
            return tokens, qf.float().cpu()

        return self._within_memory(step)

    def restore(self, batch: Sequence[Waiting], count: int) -> list[Levels] | None:
        """Restore up to ``count`` tiles in one step; None if memory ran out.

        Tiles are padded to the size the networks need and cropped back. The batch is filled up to ``count``, so that
        its shape is always the same and a tile's values do not depend on its companions.

        Raises:
            RestoreFailed: the network gave another size than it got.
        """
        parts = [waiting.pixels for waiting in batch]
        rows = [*batch, *[batch[-1]] * (count - len(batch))]

        def step() -> NDArray[np.float32]:
            images = torch.cat([_pad_to_multiple(self._to_tensor(row.pixels), self._multiple) for row in rows])
            tokens = torch.cat([row.picture.tokens for row in rows])
            names = rows[0].picture.condition
            condition = {name: torch.cat([row.picture.condition[name] for row in rows]) for name in names}
            restored = self._mean_of_views(images, tokens, condition)
            return np.asarray(restored.mul(255).permute(0, 2, 3, 1).float().cpu().numpy())

        levels = self._within_memory(step)
        if levels is None:
            return None
        cropped = [tile[: part.shape[0], : part.shape[1]] for tile, part in zip(levels, parts, strict=False)]
        return [tile if part.ndim == 3 else tile @ LUMA for tile, part in zip(cropped, parts, strict=True)]

    def _mean_of_views(self, images: Tensor, tokens: Tensor, condition: dict[str, Tensor]) -> Tensor:
        """Restore mirrored views one after the other, which needs the memory of one, and average them.

        Mirroring keeps the 8x8 grid in place, since the sides are multiples of 8, and keeps rows rows, so that the
        tokens and the tables hold for every view.
        """
        total = torch.zeros_like(images)
        for axes in MIRRORINGS[: self._views]:
            restored = self._generator(images.flip(axes), tokens, **condition)
            if restored.shape != images.shape:
                raise RestoreFailed(f"model {self._name!r} gave a picture of another size")
            total += restored.flip(axes)
        return total / self._views

    def condition(self, tables: Sequence[NDArray[np.uint16]] | None) -> dict[str, Tensor]:
        """What the generator is told beside the tokens: the file's luma and chroma tables, if they are known."""
        if not tables:
            return {}
        luma_and_chroma = np.stack((tables[0], tables[1] if len(tables) > 1 else tables[0])).astype(np.float32)
        return {"tables": torch.from_numpy(luma_and_chroma).unsqueeze(0).to(self.device)}

    def _within_memory(self, step: Callable[[], T]) -> T | None:
        started = time.perf_counter()
        # The same input gives the same bytes on one device.
        deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        try:
            with torch.inference_mode(), deterministic:
                return step()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        finally:
            self.busy_seconds += time.perf_counter() - started
        give_back(self.device)
        return None

    def _to_tensor(self, pixels: Pixels) -> Tensor:
        """uint8 (H, W, 3) or (H, W) -> float (1, 3, H, W) in [0, 1] on the device."""
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        tensor = torch.from_numpy(pixels.copy()).to(self.device)
        return tensor.permute(2, 0, 1).unsqueeze(0).float().div_(255)


def _pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad (1, 3, H, W) right and bottom by reflection, or by replication where a side is too short to reflect."""
    height, width = image.shape[-2:]
    pad_h, pad_w = -height % multiple, -width % multiple
    mode = "reflect" if pad_h < height and pad_w < width else "replicate"
    return F.pad(image, (0, pad_w, 0, pad_h), mode=mode)
