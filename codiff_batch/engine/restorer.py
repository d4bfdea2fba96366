"""The Restorer: the public interface to a loaded model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from codiff_batch.engine.backend import Backend
from codiff_batch.engine.device import choose_device, seconds_per_megapixel
from codiff_batch.engine.lanes import choose_lanes
from codiff_batch.engine.memory import fit_tiles, free_memory, total_memory
from codiff_batch.engine.photo import Decoded, restore
from codiff_batch.engine.precision import choose_precision
from codiff_batch.engine.scheduler import Scheduler
from codiff_batch.engine.stream import Embedding, Kept, Levels, Pixels, Progress, Request, Result, Tables
from codiff_batch.engine.tiling import Geometry
from codiff_batch.engine.torch_backend import TorchBackend
from codiff_batch.models.card import ModelCard
from codiff_batch.models.catalogue import DEFAULT_MODEL, find
from codiff_batch.models.loading import Networks, load_networks
from codiff_batch.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

BYTES_A_PIXEL = 60
"""Memory of the host that a photo takes while it is read, settled and encoded; tests/engine/test_bundled_model.py."""

SHARE_OF_PHOTOS = 0.2
"""Share of the host's memory that photos may take where a GPU is to be kept busy."""


class Restorer:
    """A model on a device, ready to judge and restore pictures.

    Not safe to call from two threads at once. On one device, the same input gives the same bytes::

        from PIL import Image
        from codiff_batch import Restorer

        restorer = Restorer.load()
        restored = restorer.restore(Image.open("photo.jpg"))
        Image.fromarray(restored).save("restored.png")
    """

    def __init__(
        self,
        card: ModelCard,
        networks: Networks,
        device: torch.device,
        batch: int | None = None,
        tile: int | None = None,
        *,
        compiled: bool = False,
        precision: str = "auto",
    ) -> None:
        self.networks = networks
        floats = choose_precision(card, device, precision)
        # A CPU gains nothing from larger batches, but it may from several at a time.
        alone = device.type == "cpu"
        in_lanes = alone and not compiled and not card.working_memory
        lanes = choose_lanes(free_memory(device)) if in_lanes else None
        backend = TorchBackend(networks, device, card, precision=floats, compiled=compiled, lanes=lanes)
        device = backend.device
        free, total = free_memory(device), total_memory(device)
        side, most = fit_tiles(card, free, total, precision=floats.weights, one_at_a_time=alone, one_size=compiled)
        if side < card.tile and tile is None:
            log.warning("little free memory on %s: using tiles of %d pixels", device, side)
        # Compiled networks are made for one size.
        own = Geometry(card.tile, card.overlap, card.multiple, compiled)
        geometry = own.of_side(tile or side) if (tile or side) != card.tile else own
        self._use(backend, card, geometry, batch or most)

    def _use(self, backend: Backend[Any], card: ModelCard, geometry: Geometry, most: int) -> None:
        self.card, self._backend = card, backend
        self._scheduler = Scheduler(backend, card, geometry, most)

    @classmethod
    def on(cls, backend: Backend[Any], card: ModelCard, geometry: Geometry, most: int) -> Restorer:
        """Make a Restorer on any runtime, not only torch.

        Args:
            backend: the model on its device.
            card: the model's.
            geometry: how pictures are cut.
            most: tiles in the largest batch.
        """
        restorer = cls.__new__(cls)
        restorer._use(backend, card, geometry, most)
        return restorer

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        device: str = "auto",
        *,
        models_dir: Path | None = None,
        batch: int | None = None,
        tile: int | None = None,
        compiled: bool = False,
        precision: str = "auto",
    ) -> Restorer:
        """Load a model by name, or from the path of a model folder.

        Args:
            model: a name that ``codiff-batch models list`` shows, or the path of a folder with a ``model.json``.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``xpu``, ``xpu:N`` or ``mps``.
            models_dir: where installed models lie, instead of the user's data directory.
            batch: tiles that go through the networks together; by default 1 on a CPU, and elsewhere what the
                device's free memory allows.
            tile: side of the tiles in pixels; by default the model's own, or less if memory is short.
            compiled: have torch compile the networks first, which takes minutes and makes each step faster.
            precision: of the networks' arithmetic: ``auto``, ``fp32``, ``bf16`` or ``fp16``; ``auto`` picks what is
                faster on this machine.

        Raises:
            ModelNotFound, ModelDamaged: there is no such model, or its files are not what its card says.
            DeviceUnavailable: the machine has no such device.
            SettingRefused: there is no such precision.
        """
        chosen = choose_device(device)
        card, networks = load_networks(find(model, models_dir))
        if card.macs_per_pixel and chosen.type == "cpu":
            minutes = seconds_per_megapixel(card, chosen, choose_precision(card, chosen, precision).weights) / 60
            log.warning(
                "%s takes about %.1f minutes per megapixel on a processor (%.0f minutes for a 12-megapixel photo); "
                "it is made for GPUs, and the model %s takes seconds",
                *(card.name, minutes, 12 * minutes, DEFAULT_MODEL),
            )
        return cls(card, networks, chosen, batch, tile, compiled=compiled, precision=precision)

    @property
    def geometry(self) -> Geometry:
        """How pictures are cut at present; tiles become smaller if memory runs out."""
        return self._scheduler.geometry

    @property
    def name(self) -> str:
        """The model's name."""
        return self.card.name

    @property
    def device(self) -> str:
        """The device, such as ``cuda:0``."""
        return self._backend.name

    @property
    def busy_seconds(self) -> float:
        """Time spent in the networks so far, transfers included."""
        return self._backend.busy_seconds

    @property
    def pixels_under_way(self) -> int:
        """How many pixels of photos a batch may hold while this device works, by the memory of device and host.

        0 on a CPU, which is never kept waiting by the next photo.
        """
        return min(self._backend.room, int(SHARE_OF_PHOTOS * total_memory(torch.device("cpu")) / BYTES_A_PIXEL))

    @property
    def precision(self) -> str:
        """What the generator computes in, such as ``float32``."""
        return self._backend.floats

    def estimate_qf(self, image: Pixels | Image) -> float:
        """Estimate from its pixels the quality factor that a picture was compressed at, 0..100.

        Args:
            image: uint8 (H, W, 3) RGB or (H, W) gray, or a Pillow image; stored as in the file, because the
                estimate reads the 8x8 grid from pixel (0, 0).

        Raises:
            ValueError: the array is not such a picture.
        """
        return self.embed(image).qf

    def embed(self, image: Pixels | Image) -> Embedding:
        """Look at a picture with CaVE, once for judging and restoring; arguments as for :meth:`estimate_qf`.

        Raises:
            ValueError: the array is not such a picture.
            RestoreFailed: the device does not have enough memory even for this.
        """
        return self._scheduler.embed(as_pixels(image))

    @property
    def can_glance(self) -> bool:
        """Return True if a glance is quicker than a look."""
        return self._scheduler.can_glance

    def embed_crops(self, pictures: Sequence[Sequence[Pixels]], *, glance: bool = False) -> list[Embedding]:
        """Look at several pictures in one batch, by their :func:`~codiff_batch.engine.crops.textured_crops`.

        Args:
            pictures: the crops of each.
            glance: in fewer bits, which is quicker where :attr:`can_glance`; good enough to skip photos by, not to
                restore them.
        """
        return self._scheduler.embed_crops(pictures, glance=glance)

    def restore(
        self,
        image: Pixels | Image,
        settings: Settings | None = None,
        *,
        tables: Tables | None = None,
        progress: Progress | None = None,
        embedding: Embedding | None = None,
        **changed: Any,
    ) -> Pixels:
        """Restore a picture of any size from its pixels; :func:`restore_photo` does better if there is a JPEG file.

        Args:
            image: as for :meth:`estimate_qf`.
            settings: how to restore; the defaults if not given.
            tables: the file's quantization tables in natural order, (8, 8) each, luma first, if they are known.
            progress: called with (tiles done, tiles in total) after each batch; an exception from it ends the work, or
                only this picture if it is a PhotoError and there are several.
            embedding: from :meth:`embed`, if the caller already has it.
            changed: single settings by name, such as ``strength=0.5``.

        Returns:
            uint8 of the picture's own shape, (H, W, 3) or (H, W).

        Raises:
            ValueError: the array is not a picture, or a setting is out of range.
            RestoreFailed: the network gave values that are not finite, or the device ran out of memory even for
                the smallest tile.
        """
        chosen, decoded = replace(settings or Settings(), **changed), Decoded(as_pixels(image), None, tables)
        return restore(decoded, self, chosen, embedding=embedding, progress=progress).pixels

    def restore_levels(self, image: Pixels | Image, settings: Settings | None = None, **rest: Any) -> Levels:
        """Like :meth:`restore`, but float32 in [0, 255] and not rounded, for further work."""
        tables, progress, embedding = (rest.pop(name, None) for name in ("tables", "progress", "embedding"))
        chosen, decoded = replace(settings or Settings(), **rest), Decoded(as_pixels(image), None, tables)
        restored = restore(decoded, self, chosen, embedding=embedding, progress=progress)
        return np.asarray(restored.levels, np.float32)

    def levels_of(self, request: Request) -> Levels | Kept:
        """Restore one picture: :meth:`stream` for a single request; raises its error."""
        (result,) = self.stream([request])
        if result.error is not None:
            raise result.error
        assert result.levels is not None
        return result.levels

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Result]:
        """Restore many pictures, whose tiles share batches; results come as they are finished.

        Args:
            requests: pictures, drawn as they are needed. None means "no more pictures at the moment": the device then
                works on what there is instead of waiting for a full batch.
        """
        yield from self._scheduler.run(requests)


def as_pixels(image: Pixels | Image) -> Pixels:
    """Accept a Pillow image or an array; refuse anything but 8-bit RGB or gray."""
    if not isinstance(image, np.ndarray):
        image = np.asarray(image if image.mode in ("RGB", "L") else image.convert("RGB"))
    right_shape = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not right_shape or 0 in image.shape:
        raise ValueError(f"expected uint8 (H, W, 3) or (H, W) pixels, not {image.dtype} {image.shape}")
    return image
