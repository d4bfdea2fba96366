"""The networks on their device: arrays in, arrays out, one step at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from codiff_batch.engine.device import as_current, indexed
from codiff_batch.engine.memory import give_back, is_out_of_memory
from codiff_batch.engine.stream import Geometry, Levels, Pixels, Request, Waiting
from codiff_batch.errors import RestoreFailed
from codiff_batch.models.card import ModelCard
from codiff_batch.models.loading import Networks

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

MIRRORINGS: tuple[tuple[int, ...], ...] = ((), (-1, -2), (-1,), (-2,))
"""Views of a tile by the axes they are mirrored along; the first two cover both axes."""

T = TypeVar("T")


class NetworkRunner:
    """CaVE and the generator of one model.

    Args:
        precision: what the networks compute in.
        compiled: have torch compile the networks; the first step of each shape then takes minutes.
    """

    def __init__(
        self,
        networks: Networks,
        device: torch.device,
        card: ModelCard,
        *,
        precision: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        self.device, self.precision = indexed(device), precision
        self.busy_seconds = 0.0
        """Time spent in the networks so far, transfers included."""
        self._card = card
        for network in networks:
            network.to(self.device, precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._cave = networks.cave
        # An object of its own: a method of this one, kept in it, would be a cycle that keeps a dropped model.
        step = Step(networks, card.views, embeds_tiles=card.embeds_tiles)
        self._step: Callable[..., Tensor] = torch.compile(step, dynamic=False) if compiled else step

    def look(self, crops: Sequence[Pixels]) -> tuple[Tensor, Tensor] | None:
        """CaVE's tokens (B, K, D) and quality factors (B,) of crops of one size; None if memory ran out."""

        def step() -> tuple[Tensor, Tensor]:
            height, width = crops[0].shape[:2]
            tokens, qf = self._cave(self._upload(crops, height, width))
            return tokens, qf.float().cpu()

        return self._within_memory(step)

    def start(self, batch: Sequence[Waiting], count: int, geometry: Geometry) -> UnderWay | None:
        """Begin to restore up to ``count`` tiles in one step; None if memory ran out.

        On a GPU the step goes on by itself while the next one is prepared. Tiles are padded by mirroring and cropped
        back. The batch is filled up to ``count``, so that its shape is always the same and a tile's values do not
        depend on its companions.

        Raises:
            RestoreFailed: the network gave another size than it got.
        """
        parts = [waiting.pixels for waiting in batch]
        rows = [*batch, *[batch[-1]] * (count - len(batch))]
        height, width = (max(geometry.padded(part.shape[axis]) for part in parts) for axis in (0, 1))

        def step() -> UnderWay:
            images = self._upload([row.pixels for row in rows], height, width)
            tokens = torch.cat([row.picture.tokens for row in rows])
            names = rows[0].picture.condition
            condition = {name: torch.cat([row.picture.condition[name] for row in rows]) for name in names}
            restored = self._step(images, tokens, condition)
            if restored.shape != images.shape:
                raise RestoreFailed(f"model {self._card.name!r} gave a picture of another size")
            return UnderWay(parts, restored.float().mul(255).permute(0, 2, 3, 1), self._timed)

        return self._within_memory(step)

    def condition(self, request: Request) -> dict[str, Tensor]:
        """What the generator is told beside the tokens, as far as it listens.

        These are the file's luma and chroma tables, where they are known, and how much texture is wanted.
        """
        told: dict[str, NDArray[np.float32]] = {}
        if self._card.uses_tables and (tables := request.tables):
            told["tables"] = np.stack((tables[0], tables[1] if len(tables) > 1 else tables[0])).astype(np.float32)
        if self._card.adds_texture:
            told["amount"] = np.array(request.texture, np.float32)
        return {name: torch.from_numpy(value)[None].to(self.device, self.precision) for name, value in told.items()}

    def _within_memory(self, step: Callable[[], T]) -> T | None:
        # The same input gives the same bytes on one device.
        deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        try:
            with self._timed(), as_current(self.device), torch.inference_mode(), deterministic:
                return step()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        give_back(self.device)
        return None

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.busy_seconds += time.perf_counter() - started

    def _upload(self, pictures: Sequence[Pixels], height: int, width: int) -> Tensor:
        """uint8 (h, w, 3) or (h, w) -> floats (B, 3, H, W) in [0, 1] on the device, mirrored right and bottom.

        Bytes travel, not floats, and on CUDA from pinned memory, so that the host need not wait.
        """
        pinned = self.device.type == "cuda"
        host = torch.empty((len(pictures), height, width, 3), dtype=torch.uint8, pin_memory=pinned)
        rows = host.numpy()
        for row, pixels in zip(rows, pictures, strict=True):
            row[...] = _mirrored(pixels if pixels.ndim == 3 else pixels[..., None], height, width)
        # Elsewhere the copy must be waited for: Apple's reads what has become of the buffer by then.
        images = host.to(self.device, non_blocking=pinned).permute(0, 3, 1, 2)
        return images.to(self.precision).div_(255)


class Step(nn.Module):
    """What is done to a batch of tiles: CaVE, where each tile is embedded by itself, and the generator's views.

    Args:
        views: how many mirrored views of a tile are restored.
        embeds_tiles: whether CaVE sees the tiles themselves.
    """

    def __init__(self, networks: Networks, views: int, *, embeds_tiles: bool) -> None:
        super().__init__()
        self.cave, self.generator = networks
        self.views, self.embeds_tiles = views, embeds_tiles

    def forward(self, images: Tensor, tokens: Tensor, condition: dict[str, Tensor]) -> Tensor:
        """Restore mirrored views one after the other, which needs the memory of one, and average them.

        Mirroring keeps the 8x8 grid in place, since the sides are multiples of 8, and keeps rows rows, so that the
        tokens and the tables hold for every view.
        """
        if self.embeds_tiles:
            tokens, _ = self.cave(images)
        if self.views == 1:
            restored: Tensor = self.generator(images, tokens, **condition)
            return restored
        total = torch.zeros_like(images)
        for axes in MIRRORINGS[: self.views]:
            total += self.generator(images.flip(axes), tokens, **condition).flip(axes)
        return total / self.views


class UnderWay:
    """A step that has been begun.

    Args:
        parts: the pixels of the tiles, without those that only filled the batch.
        restored: (B, H, W, 3) on the device.
        timed: counts the time spent waiting.
    """

    def __init__(
        self, parts: Sequence[Pixels], restored: Tensor, timed: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._parts, self._timed = parts, timed
        self._done: torch.cuda.Event | None = None
        if restored.device.type == "cuda":
            self._levels = torch.empty(restored.shape, dtype=restored.dtype, pin_memory=True)
            self._levels.copy_(restored, non_blocking=True)
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            # On the copy's own stream: whoever waits on another device's reads the buffer too early.
            self._done.record(torch.cuda.current_stream(restored.device))
        else:
            self._levels = restored.cpu()

    def levels(self) -> list[Levels]:
        """Wait for the step, and return each tile's levels 0..255, not clipped, in the tile's own shape."""
        with self._timed():
            if self._done is not None:
                self._done.synchronize()
            levels: Levels = self._levels.numpy()
        cropped = [tile[: part.shape[0], : part.shape[1]] for tile, part in zip(levels, self._parts, strict=False)]
        return [tile if part.ndim == 3 else tile @ LUMA for tile, part in zip(cropped, self._parts, strict=True)]


def _mirrored(pixels: Pixels, height: int, width: int) -> Pixels:
    """Continue a picture to the right and below by mirroring it, as often as it takes."""
    below, right = height - pixels.shape[0], width - pixels.shape[1]
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="reflect") if below or right else pixels
