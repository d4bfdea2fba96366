"""The Restorer: the public door to a loaded model."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codiff_batch.engine import colour
from codiff_batch.engine.crops import textured_crops
from codiff_batch.engine.device import choose_device, choose_precision, seconds_per_megapixel
from codiff_batch.engine.memory import fit_tiles, free_memory
from codiff_batch.engine.runner import NetworkRunner, UnderWay
from codiff_batch.engine.stream import (
    Embedding,
    Geometry,
    Levels,
    PictureUnderWay,
    Pixels,
    Progress,
    Request,
    Result,
    TilePool,
    Waiting,
)
from codiff_batch.errors import PhotoError, RestoreFailed
from codiff_batch.models.card import ModelCard
from codiff_batch.models.catalogue import DEFAULT_MODEL, find
from codiff_batch.models.loading import Networks, load_networks

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


class Restorer:
    """A model on a device, ready to judge and restore pictures.

    Not safe to call from two threads at once. The same input gives the same bytes on one device::

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
    ) -> None:
        self.card = card
        self.networks = networks
        precision = choose_precision(card, device)
        self._runner = NetworkRunner(networks, device, card, precision=precision, compiled=compiled)
        # A CPU gains nothing from more than one tile at a time and would need the memory for them.
        alone = device.type == "cpu"
        side, count = fit_tiles(card, free_memory(device), precision=precision, one_at_a_time=alone)
        if side < card.tile and tile is None:
            log.warning("little memory is free on %s: working with tiles of %d pixels", device, side)
        self._batch = batch or count
        # One shape suits compiled networks, and GPUs, which then choose their kernels once.
        one_size = compiled or (card.embeds_tiles and not alone)
        own = Geometry(card.tile, card.overlap, card.multiple, one_size)
        self._geometry = own.of_side(tile or side) if (tile or side) != card.tile else own

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
    ) -> Restorer:
        """Load a model by name, or from a model folder given as a path.

        Args:
            model: a name that ``codiff-batch models list`` shows, or the path of a folder with a ``model.json``.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            models_dir: where installed models lie, instead of the user's data directory.
            batch: tiles that go through the networks together; by default 1 on a CPU, and elsewhere what the
                device's free memory allows.
            tile: side of the tiles in pixels; the model's own by default, or less where memory is short.
            compiled: have torch compile the networks first, which takes minutes and then makes each step faster.

        Raises:
            ModelNotFound, ModelDamaged: there is no such model, or its files are not what its card says.
            DeviceUnavailable: the machine has no such device.
        """
        chosen = choose_device(device)
        card, networks = load_networks(find(model, models_dir))
        restorer = cls(card, networks, chosen, batch, tile, compiled=compiled)
        restorer._tell_what_to_expect()
        return restorer

    def _tell_what_to_expect(self) -> None:
        """Warn of a model that is too large for a CPU to be pleasant."""
        if self.card.macs_per_pixel and self._runner.device.type == "cpu":
            minutes = seconds_per_megapixel(self.card, self._runner.device, self._runner.precision) / 60
            log.warning(
                "%s on a processor takes about %.1f minutes a megapixel (a 12-megapixel photo: %.0f minutes); "
                "it is made for GPUs, and the model %s takes seconds",
                *(self.name, minutes, 12 * minutes, DEFAULT_MODEL),
            )

    @property
    def name(self) -> str:
        """The model's name."""
        return self.card.name

    @property
    def device(self) -> str:
        """The device, as torch calls it."""
        return str(self._runner.device)

    @property
    def busy_seconds(self) -> float:
        """Time spent in the networks so far, transfers included."""
        return self._runner.busy_seconds

    def estimate_qf(self, image: Pixels | Image) -> float:
        """Estimate the quality factor that a picture's pixels went through, 0..100.

        Args:
            image: uint8 (H, W, 3) RGB or (H, W) gray, or a Pillow image; stored as in the file, because the
                estimate reads the 8x8 grid from pixel (0, 0).

        Raises:
            ValueError: the array is not such a picture.
        """
        return self.embed(image).qf

    def embed(self, image: Pixels | Image) -> Embedding:
        """Look at a picture with CaVE, once for judging, restoring and all; arguments as for :meth:`estimate_qf`.

        Raises:
            ValueError: the array is not such a picture.
            RestoreFailed: the device has not memory enough even for this.
        """
        return self.embed_crops([textured_crops(as_pixels(image))])[0]

    def embed_crops(self, pictures: Sequence[Sequence[Pixels]]) -> list[Embedding]:
        """Look at several pictures in one batch, by their :func:`~codiff_batch.engine.crops.textured_crops`."""
        embeddings: dict[int, Embedding] = {}
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, crops in enumerate(pictures):
            by_shape.setdefault(crops[0].shape[:2], []).append(index)
        for indices in by_shape.values():
            tokens, qfs = self._look([crop for index in indices for crop in pictures[index]])
            start = 0
            for index in indices:
                end = start + len(pictures[index])
                own = tokens[start:end].flatten(0, 1).unsqueeze(0)
                embeddings[index] = Embedding(own, float(qfs[start:end].mean()))
                start = end
        return [embeddings[index] for index in range(len(pictures))]

    def restore(
        self,
        image: Pixels | Image,
        *,
        strength: float = 1.0,
        texture: float = 1.0,
        tables: Sequence[NDArray[np.uint16]] | None = None,
        progress: Progress | None = None,
        embedding: Embedding | None = None,
    ) -> Pixels:
        """Restore a picture of any size; :meth:`restore_levels` rounded to 8 bits.

        Args:
            image: as for :meth:`estimate_qf`.
            strength: 0 gives the source, 1 the restoration, between them a blend.
            texture: how much of the texture to add that a model such as ``natural`` adds; 0 is its faithful
                restoration. Nothing to models without.
            tables: the file's quantization tables in natural order, (8, 8) each, luma first, if they are known.
            progress: called with (tiles done, tiles in all) after each batch of tiles; what it raises ends the work, or
                this picture alone where it is a PhotoError and there are several.
            embedding: from :meth:`embed`, if the caller has it already.

        Returns:
            uint8 of the picture's own shape, (H, W, 3) or (H, W).

        Raises:
            ValueError: the array is not a picture, or strength or texture is outside 0..1.
            RestoreFailed: the network gave values that are not finite, or the device ran out of memory even for
                the smallest tile.
        """
        levels = self.restore_levels(
            image, strength=strength, texture=texture, tables=tables, progress=progress, embedding=embedding
        )
        return np.rint(levels, out=levels).astype(np.uint8)

    def restore_levels(
        self,
        image: Pixels | Image,
        *,
        strength: float = 1.0,
        texture: float = 1.0,
        tables: Sequence[NDArray[np.uint16]] | None = None,
        progress: Progress | None = None,
        embedding: Embedding | None = None,
    ) -> Levels:
        """Like :meth:`restore`, but float32 in [0, 255] and not rounded, for further work such as the constraint."""
        request = Request(as_pixels(image), embedding, strength, texture, tables, progress)
        (result,) = self.stream([request])
        if result.error is not None:
            raise result.error
        assert result.levels is not None
        return result.levels

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Result]:
        """Restore many pictures, tiles of different ones sharing batches; results come as they are finished.

        Args:
            requests: pictures, drawn as they are needed. None says "no further picture at the moment": the device
                then works on what there is rather than wait for a full batch.

        Raises:
            ValueError: strength or texture is outside 0..1.
        """
        pool = TilePool(self._geometry)
        for request in requests:
            if request is not None:
                yield from self._admit(request, pool)
            yield from self._work(pool, only_full=request is not None)
        yield from self._work(pool, only_full=False)

    def _admit(self, request: Request, pool: TilePool) -> Iterator[Result]:
        """Queue a picture's tiles; yield at once where there is nothing to do."""
        if not 0 <= request.strength <= 1:
            raise ValueError(f"strength must be between 0 and 1, not {request.strength}")
        if not 0 <= request.texture <= 1:
            raise ValueError(f"texture must be between 0 and 1, not {request.texture}")
        try:
            embedding = request.embedding or self.embed(request.pixels)
        except RestoreFailed as error:
            yield Result(request, error=error)
            return
        strength = request.strength * self._fade(embedding.qf)
        if strength == 0:
            yield Result(request, request.pixels.astype(np.float32))
            return
        condition = self._runner.condition(request)
        # Tiles that are embedded by themselves need none of the photo's tokens, and may share a batch with any others.
        tokens = embedding.tokens[:, :0] if self.card.embeds_tiles else embedding.tokens
        pool.add(PictureUnderWay(request, tokens, condition, strength, pool.geometry))

    def _work(self, pool: TilePool, *, only_full: bool) -> Iterator[Result]:
        """Take batches from the pool as long as it has some; one is prepared while the one before is under way."""
        under_way: deque[tuple[list[Waiting], UnderWay]] = deque()
        while True:
            batch = pool.next(self._batch, only_full=only_full)
            if batch:
                try:
                    step = self._runner.start(batch, self._batch, pool.geometry)
                except Exception as error:
                    yield from self._give_up(pool, batch, error)
                    continue
                if step is not None:
                    under_way.append((batch, step))
                else:
                    while under_way:
                        yield from self._land(pool, *under_way.popleft())
                    if not self._use_less_memory(pool, batch):
                        size = f"{pool.geometry.tile}x{pool.geometry.tile}"
                        message = f"out of memory on {self.device}, even for a single tile of {size} pixels"
                        yield from self._give_up(pool, batch, RestoreFailed(message))
            if under_way and (len(under_way) > 1 or not batch):
                yield from self._land(pool, *under_way.popleft())
            elif not batch:
                return

    def _land(self, pool: TilePool, batch: Sequence[Waiting], step: UnderWay) -> Iterator[Result]:
        """Wait for a batch and blend its tiles in; yield the pictures that it finished."""
        try:
            restored = step.levels()
        except Exception as error:
            yield from self._give_up(pool, batch, error)
            return
        finished = [w.picture for w, part in zip(batch, restored, strict=True) if w.picture.take(w.tile, part)]
        for picture in {id(w.picture): w.picture for w in batch}.values():
            if picture.request.progress is not None and not picture.given_up:
                try:
                    picture.request.progress(picture.done, len(picture.tiles))
                except PhotoError as error:
                    pool.remove(picture)
                    yield Result(picture.request, error=error)
        for picture in finished:
            if not picture.given_up:
                yield self._finish(picture)

    def _give_up(self, pool: TilePool, batch: Sequence[Waiting], error: Exception) -> Iterator[Result]:
        """Fail the pictures of a batch; the others in the pool go on."""
        for picture in {id(w.picture): w.picture for w in batch}.values():
            if not picture.given_up:
                pool.remove(picture)
                yield Result(picture.request, error=error)

    def _use_less_memory(self, pool: TilePool, batch: Sequence[Waiting]) -> bool:
        """Halve the batch, then the tile, for this and all later pictures; tell whether that was possible."""
        if self._batch > 1:
            self._batch //= 2
            log.warning("out of memory on %s: going on with %d tiles at a time", self.device, self._batch)
        elif smaller := self._geometry.smaller():
            self._geometry = smaller
            log.warning("out of memory on %s: going on with tiles of %d pixels", self.device, smaller.tile)
        else:
            return False
        pool.cut_again(self._geometry, batch)
        return True

    def _finish(self, picture: PictureUnderWay) -> Result:
        """Colours, a last check, and the blend with the source."""
        request, restored = picture.request, picture.blended
        self._correct_colour(restored, request.pixels)
        if not np.isfinite(restored).all():
            message = f"model {self.name!r} gave values that are not finite; the picture was not restored"
            return Result(request, error=RestoreFailed(message))
        if picture.strength < 1:
            restored *= picture.strength
            restored += (1 - picture.strength) * request.pixels
        return Result(request, np.clip(restored, 0, 255, out=restored))

    def _look(self, crops: Sequence[Pixels]) -> tuple[Tensor, Tensor]:
        """Tokens (B, K, D) and quality factors (B,) of crops of one size; fewer at a time where memory is short."""
        if seen := self._runner.look(crops):
            return seen
        if len(crops) == 1:
            raise RestoreFailed(f"out of memory on {self.device}, even for one crop of {crops[0].shape[1]} pixels")
        halves = self._look(crops[: len(crops) // 2]), self._look(crops[len(crops) // 2 :])
        return torch.cat([halves[0][0], halves[1][0]]), torch.cat([halves[0][1], halves[1][1]])

    def _fade(self, qf: float) -> float:
        """Share of the restoration to keep for a picture of this estimated quality, 0..1; see the card's ``fade``."""
        start, end = self.card.fade
        return float(np.interp(qf, (start, end), (1, 0))) if end > start else 1.0

    def _correct_colour(self, restored: Levels, pixels: Pixels) -> None:
        """Apply the card's colour fix over the whole picture, in place."""
        fix = {"adain": colour.adain, "wavelet": colour.wavelet}.get(self.card.colour_fix)
        if fix is None:
            return
        # One channel at a time: the correction needs a few float copies, and three channels need thrice that.
        for target, source in zip(_planes(restored), _planes(pixels), strict=True):
            corrected = fix(torch.from_numpy(target)[None, None], torch.from_numpy(source)[None, None].float())
            target[...] = corrected[0, 0].numpy()


def as_pixels(image: Pixels | Image) -> Pixels:
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
