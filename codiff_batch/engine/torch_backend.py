"""The networks with torch: pictures are kept on the device, and tiles are cut, restored and blended there.

On CUDA the host only queues work, on a stream of the device's own, and waits for events; it never has to wait for the
device before it queues the next batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from codiff_batch.engine import colour
from codiff_batch.engine.device import as_current, indexed
from codiff_batch.engine.exact import exactly
from codiff_batch.engine.graphs import MOST, Recorded
from codiff_batch.engine.lanes import InLane, LandingLater, Lanes
from codiff_batch.engine.memory import give_back, is_out_of_memory, total_memory
from codiff_batch.engine.on_device import OnDevice
from codiff_batch.engine.precision import Precision
from codiff_batch.engine.stream import LUMA, Embedding, Levels, Pixels, Request
from codiff_batch.engine.tiling import Tile
from codiff_batch.engine.transfers import UnderWay, fetched, send
from codiff_batch.errors import RestoreFailed
from codiff_batch.models.card import ModelCard
from codiff_batch.models.loading import Networks

MIRRORINGS: tuple[tuple[int, ...], ...] = ((), (-1, -2), (-1,), (-2,))
"""Views of a tile, by the axes along which they are mirrored; the first two cover both axes."""

BYTES_A_PIXEL = 15
"""Bytes of a picture on the device: three of its own, and three floats of its restoration."""

SHARE_OF_A_PICTURE = 0.05
"""Share of the device's memory that one picture may take; larger ones stay on the host, which costs time."""

SHARE_OF_PICTURES, BYTES_KEPT = 0.05, 12
"""Share of the device's memory that finished pictures may take together, and their bytes a pixel."""

AHEAD = 2
"""Batches in progress while the next is prepared."""

HOPPER = (9, 0)
"""Compute capability."""

ATTENTION_ON_HOPPER = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]

T = TypeVar("T")


class TorchBackend:
    """CaVE and the generator of one model; a :class:`~codiff_batch.engine.backend.Backend`.

    Args:
        precision: what the networks compute in; CaVE in that of the weights.
        compiled: have torch compile the networks, and on CUDA record them; the first step of each shape then takes
            minutes.
        lanes: in which a processor works on several batches at a time.
    """

    def __init__(
        self,
        networks: Networks,
        device: torch.device,
        card: ModelCard,
        *,
        precision: Precision = Precision(torch.float32),  # noqa: B008  a constant
        compiled: bool = False,
        lanes: Lanes | None = None,
    ) -> None:
        self._lanes = lanes
        self.device, (self.precision, self.steps) = indexed(device), precision
        self.busy_seconds = 0.0
        """Time that the host has spent on the networks so far, including the wait for them."""
        self._card = card
        for network in networks:
            network.to(self.device, self.precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._cave = networks.cave
        # Judging and settling wait for their answers; on a stream of their own they need not wait for everything that
        # was queued before.
        on_cuda = self.device.type == "cuda"
        self._beside = torch.cuda.Stream(self.device) if on_cuda else None  # type: ignore[no-untyped-call]
        self._attention = fast_attention(self.device)
        # A separate object: a bound method stored in self would be a cycle that keeps a dropped model in memory.
        step = Step(networks, card.views, embeds_tiles=card.embeds_tiles)
        self._step: Callable[..., Tensor] = step
        self._recorded: Recorded | None = None
        if compiled:
            self._step = _for_all_shapes(torch.compile(step, dynamic=False))
            if on_cuda:
                self._step = self._recorded = Recorded(self._step, is_out_of_memory)

    @property
    def name(self) -> str:
        """The device, as torch calls it."""
        return str(self.device)

    @property
    def floats(self) -> str:
        """What the generator computes in, as torch calls it."""
        return str(self.steps or self.precision).removeprefix("torch.")

    @property
    def ahead(self) -> int:
        """Batches to have in progress while the next is prepared."""
        if self._lanes is not None:
            return self._lanes.count
        return AHEAD if self.device.type == "cuda" else 0

    @property
    def room(self) -> int:
        """How many pixels of finished pictures may wait on a GPU to be settled."""
        return int(SHARE_OF_PICTURES * total_memory(self.device) / BYTES_KEPT) if self.device.type == "cuda" else 0

    @property
    def can_widen(self) -> bool:
        """Return True if overflowing values may fit a wider range: float16 ends at 65504."""
        return torch.float16 in (self.precision, self.steps)

    @property
    def can_glance(self) -> bool:
        """Return True if CaVE is quicker in 16 bits too. A GPU is not worth it: its queue is what takes time."""
        return self.device.type == "cpu" and self.steps is not None

    def look(self, crops: Sequence[Pixels], *, glance: bool = False) -> list[tuple[Tensor, float]] | None:
        """CaVE's tokens (1, K, D) and quality factor of each of several crops of one size; None if memory ran out."""
        rows = np.stack([crop if crop.ndim == 3 else np.repeat(crop[..., None], 3, axis=2) for crop in crops])

        def step() -> list[tuple[Tensor, float]]:
            with torch.cuda.stream(self._beside), self._range(wide=False) if glance else nullcontext():
                tokens, qf = self._cave(self._floats(self._send(rows)))
                quality = qf.float().tolist()
            if self._beside is not None:
                # The tokens are read later on the other stream; until then their memory must not be reused.
                tokens.record_stream(torch.cuda.current_stream(self.device))
            return list(zip(tokens.split(1), quality, strict=True))

        return self._within_memory(step)

    def open(self, request: Request, embedding: Embedding, size: tuple[int, int], *, wide: bool) -> TorchPicture:
        """Bring a picture to the device, mirrored at the right and bottom to (height, width).

        If it would take much of the device's memory it stays on the host, and its tiles travel back and forth.
        """
        pixels = request.pixels if request.pixels.ndim == 3 else request.pixels[..., None]
        below, right = size[0] - pixels.shape[0], size[1] - pixels.shape[1]
        padded = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="reflect") if below or right else pixels
        told = self._told(request)

        def bring(place: torch.device) -> TorchPicture:
            # Tiles that are embedded by themselves do not need the photo's tokens.
            none = torch.empty(1, 0, 0, device=self.device)
            tokens = none if self._card.embeds_tiles else torch.cat(list(embedding.tokens), dim=1)
            condition = {name: self._send(value)[None].to(self.precision) for name, value in told.items()}
            blended = torch.zeros(pixels.shape, dtype=torch.float32, device=place)
            source = self._send(padded, place)
            luma = self._send(LUMA, place) if request.pixels.ndim == 2 else None
            return TorchPicture(source, blended, tokens, condition, luma, wide=wide)

        host = torch.device("cpu")
        small = pixels[..., 0].size * BYTES_A_PIXEL < SHARE_OF_A_PICTURE * total_memory(self.device)
        picture = self._within_memory(lambda: bring(self.device if small else host))
        picture = picture or self._within_memory(lambda: bring(host))
        if picture is None:
            raise RestoreFailed("out of memory: the networks leave no room for the picture")
        return picture

    def _told(self, request: Request) -> dict[str, NDArray[np.float32]]:
        """What the generator gets besides the tokens, if it uses it.

        These are the file's luma and chroma tables, if they are known, and the amount of texture; without texture, an
        empty array, which the host can recognise without asking the device.
        """
        told: dict[str, NDArray[np.float32]] = {}
        if self._card.uses_tables and (tables := request.tables):
            told["tables"] = np.stack((tables[0], tables[1] if len(tables) > 1 else tables[0])).astype(np.float32)
        if self._card.adds_texture:
            amount = request.settings.texture_of(self._card)
            told["amount"] = np.full(() if amount else (0,), amount, np.float32)
        return told

    def start(
        self, tiles: Sequence[tuple[TorchPicture, Tile]], shape: tuple[int, int, int], beside: int
    ) -> UnderWay | InLane | None:
        """Start restoring tiles in one step and adding them to their pictures; None if memory ran out.

        A batch is filled up with its last tile, so that it has the announced shape.

        Raises:
            RestoreFailed: the network returned a picture of another size.
        """
        count, height, width = shape
        rows = [*tiles, *[tiles[-1]] * (count - len(tiles))]

        def prepare() -> Callable[[], Tensor]:
            images = self._floats(torch.stack([picture.cut(tile, height, width) for picture, tile in rows]))
            tokens = torch.cat([picture.tokens for picture, _ in rows])
            names = rows[0][0].condition
            condition = {name: torch.cat([picture.condition[name] for picture, _ in rows]) for name in names}
            return partial(self._levels, images, tokens, condition, wide=rows[0][0].wide)

        def blend(levels: Tensor) -> None:
            for (picture, tile), part in zip(tiles, levels, strict=False):
                weights = [self._send(span.weights, picture.place) for span in (tile.rows, tile.columns)]
                picture.add(tile, part.to(picture.place), weights[0][:, None] * weights[1])

        def step() -> UnderWay:
            blend(prepare()())
            return UnderWay(self.device, self._waiting)

        if self._lanes is None:
            return self._within_memory(step)
        if (prepared := self._within_memory(prepare)) is None:
            return None
        return InLane(self._lanes.submit(prepared, beside + 1), self._within_memory, blend)

    def _levels(self, images: Tensor, tokens: Tensor, condition: dict[str, Tensor], *, wide: bool) -> Tensor:
        """Restored levels (B, h, w, 3) of images (B, 3, h, w)."""
        # Torch keeps the mode for each thread, and a lane is one of its own.
        with torch.inference_mode(), self._range(wide=wide), self._attention():
            restored = self._step(images, tokens, condition)
        if restored.shape != images.shape:
            raise RestoreFailed(f"model {self._card.name!r} gave a picture of another size")
        return restored.float().mul(255).permute(0, 2, 3, 1)

    def finish(self, picture: TorchPicture, strength: float) -> Landing | LandingLater:
        """Finish a picture whose tiles have all been started."""

        def step() -> Landing:
            levels, finite = picture.finished(self._card.colour_fix, strength)
            return Landing(levels, finite, self._beside, flat=picture.luma is not None, timed=self._waiting)

        if self._lanes is not None:
            return LandingLater(partial(self._land, picture, step))
        return self._land(picture, step)

    def _land(self, picture: TorchPicture, step: Callable[[], Landing]) -> Landing:
        landing = self._within_memory(step)
        if landing is None:
            picture.stay_with_host()
            landing = self._within_memory(step)
        if landing is None:
            raise RestoreFailed("out of memory: the networks leave no room for the picture")
        return landing

    def _range(self, *, wide: bool) -> Any:
        floats = torch.bfloat16 if wide else self.steps
        # Not cached: a recorded step would read the cast weights after they are gone.
        return torch.autocast(self.device.type, floats, cache_enabled=False) if floats is not None else nullcontext()

    def _within_memory(self, step: Callable[[], T]) -> T | None:
        try:
            with self._waiting(), as_current(self.device), torch.inference_mode(), exactly():
                return step()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        if self._recorded is not None:
            with as_current(self.device):
                self._recorded.forget()
        give_back(self.device)
        return None

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.busy_seconds += time.perf_counter() - started

    def _send(self, array: NDArray[Any], place: torch.device | None = None) -> Tensor:
        return send(array, self.device if place is None else place)

    def _floats(self, rows: Tensor) -> Tensor:
        """uint8 (B, h, w, 3) -> floats (B, 3, h, w) in [0, 1] on the device; bytes are transferred, not floats."""
        return rows.to(self.device).permute(0, 3, 1, 2).to(self.precision).div_(255)


def _for_all_shapes(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Have torch compile for as many shapes as there may be, in whichever thread; after eight it silently gives up."""

    def compiled(*arguments: Any) -> Tensor:
        if torch._dynamo.config.recompile_limit < MOST:  # Torch keeps it for each thread.
            torch._dynamo.config.recompile_limit = MOST
        return step(*arguments)

    return compiled


def fast_attention(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Return the context in which attention uses a device's fastest kernel.

    From Hopper on that is said to be cuDNN's, which torch asks last of all. The order is fixed, so that the same kernel
    runs every time.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < HOPPER:
        return nullcontext
    return partial(sdpa_kernel, ATTENTION_ON_HOPPER, set_priority=True)


class TorchPicture:
    """A picture while its tiles are restored.

    Args:
        source: uint8 (H', W', 3 or 1), mirrored beyond its right and bottom edges.
        blended: float32 (H, W, 3 or 1), the weighted sum of the restored tiles.
        tokens: (1, K, D).
        condition: what the generator gets besides, by name, each (1, ...).
        luma: weights of the three colours, where the picture is gray.
        wide: whether it needs a wider range of floats.
    """

    def __init__(
        self,
        source: Tensor,
        blended: Tensor,
        tokens: Tensor,
        condition: dict[str, Tensor],
        luma: Tensor | None,
        *,
        wide: bool,
    ) -> None:
        self.source, self.blended, self.tokens, self.condition = source, blended, tokens, condition
        self.luma, self.wide = luma, wide

    @property
    def place(self) -> torch.device:
        """Where it is kept."""
        return self.blended.device

    @property
    def kind(self) -> tuple[object, ...]:
        """Only pictures with as many tokens and the same conditions share a batch."""
        conditions = sorted((name, value.shape) for name, value in self.condition.items())
        return self.wide, self.place, self.tokens.shape[1], *conditions

    def cut(self, tile: Tile, height: int, width: int) -> Tensor:
        """uint8 (height, width, 3) from where a tile begins."""
        part = self.source[tile.rows.start :, tile.columns.start :][:height, :width]
        return part.expand(-1, -1, 3)

    def add(self, tile: Tile, restored: Tensor, weights: Tensor) -> None:
        """Add a tile's levels (height, width, 3) by their blending weights (h, w)."""
        restored = restored[: weights.shape[0], : weights.shape[1]]
        if self.luma is not None:
            restored = (restored @ self.luma)[..., None]
        self.blended[tile.place] += restored * weights[..., None]

    def finished(self, colour_fix: str, strength: float) -> tuple[Tensor, Tensor]:
        """Levels (H, W, 3 or 1) in [0, 255], and whether all values from the networks were finite.

        Corrected to the source's colours if the card asks for it, blended with the source, clipped.
        """
        height, width = self.blended.shape[:2]
        source = self.source[:height, :width]
        if fix := {"adain": colour.adain, "wavelet": colour.wavelet}.get(colour_fix):
            # One channel at a time: the correction needs a few float copies, and three channels need thrice that.
            for channel in range(self.blended.shape[2]):
                plane = self.blended[..., channel]
                plane.copy_(fix(plane[None, None], source[..., channel][None, None].float())[0, 0])
        finite = self.blended.isfinite().all()
        if strength < 1:
            self.blended *= strength
            # In the widest floats available: rounded once instead of twice. Few GPUs but NVIDIA's have 64 bits.
            exact = torch.float32 if self.place.type in ("mps", "xpu") else torch.float64
            self.blended += (1 - strength) * source.to(exact)
        return self.blended.clip_(0, 255), finite

    def stay_with_host(self) -> None:
        """Move from the device to the host."""
        self.source, self.blended = self.source.cpu(), self.blended.cpu()
        self.luma = None if self.luma is None else self.luma.cpu()


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


class Landing:
    """A finished picture on its way.

    One on a GPU stays there: it is settled by another thread, while this one goes on with the next.

    Args:
        levels: float32 (H, W, 3 or 1).
        finite: whether all of its values were finite before they were clipped.
        stream: of the GPU, on which the picture is settled.
        flat: whether it is gray, (H, W).
        timed: counts the time spent waiting.
    """

    def __init__(
        self,
        levels: Tensor,
        finite: Tensor,
        stream: torch.cuda.Stream | None,
        *,
        flat: bool,
        timed: Callable[[], Any],
    ) -> None:
        self._levels, self._stream = levels[..., 0] if flat else levels, stream
        self._finite, self._computed = fetched(finite), UnderWay(levels.device, timed)

    def levels(self) -> Levels | OnDevice | None:
        """Wait, and return the levels in the picture's own shape; None if some were not finite."""
        self._computed.wait()
        if not self._finite.item():
            return None
        if self._levels.device.type == "cuda":
            return OnDevice(self._levels, self._stream)
        levels: Levels = self._levels.cpu().numpy()
        return levels
