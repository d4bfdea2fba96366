"""What the engine does for a client: say who it is, judge a picture, restore one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codiff_batch import __version__
from codiff_batch.errors import RequestRefused
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.jpeg.quantization import ijg_table
from codiff_batch.models.card import read_card
from codiff_batch.models.catalogue import DEFAULT_MODEL, available
from codiff_batch.serve.origin import jpeg_behind
from codiff_batch.serve.pixels import identity, read_picture
from codiff_batch.serve.preview import Memory, restored_part

if TYPE_CHECKING:
    from codiff_batch.engine import Restorer
    from codiff_batch.engine.stream import Embedding
    from codiff_batch.models.card import ModelCard

PROTOCOL = 1

Answer = dict[str, Any]
Report = Callable[[int, int], None]


class Engine:
    """Answers requests, one at a time; keeps the model that was used last."""

    def __init__(self, device: str = "auto", models_dir: Path | None = None) -> None:
        self._device, self._models_dir = device, models_dir
        self._loaded: tuple[str, Restorer] | None = None
        self._memory = Memory()

    def answer(self, request: Mapping[str, Any], report: Report) -> Answer:
        """Follow one request; ``report`` is called with (tiles done, tiles in all) and may raise to end it.

        Raises:
            CodiffError: with the sentence for the user.
        """
        match request.get("do"):
            case "hello":
                return self._hello()
            case "estimate":
                return self._estimate(request)
            case "preview":
                return self._preview(request, report)
            case "restore":
                return self._restore(request, report)
            case other:
                raise RequestRefused(f"there is no request {other!r}")

    def _hello(self) -> Answer:
        entries = [entry for entry in available(self._models_dir) if entry.status in ("bundled", "installed")]
        models = [
            {"name": entry.name, "summary": entry.summary, "texture": read_card(entry.path).adds_texture}
            for entry in entries
            if entry.path is not None
        ]
        return {"protocol": PROTOCOL, "version": __version__, "models": models}

    def _estimate(self, request: Mapping[str, Any]) -> Answer:
        pixels = read_picture(_part(request, "picture")).eight_bits
        photo = _origin(request, pixels)
        return {
            "qf": round(self._restorer(request).estimate_qf(pixels), 1),
            "header_qf": round(photo.header.qf, 1) if photo else None,
        }

    def _preview(self, request: Mapping[str, Any], report: Report) -> Answer:
        """As :meth:`_restore`, of a small region and with what is known from earlier calls."""
        told, into = _part(request, "picture"), request.get("into")
        strength, texture = (_number(request, name, 1.0, 0, 1) for name in ("strength", "texture"))
        by_hand = _number(request, "qf", 0.0, 0, 100)
        if not isinstance(into, str):
            raise RequestRefused("'into' must name the file for the result")
        about = (*identity(told), str(request.get("jpeg")), str(request.get("jpeg_settings")))
        picture = self._memory.recall(about, "picture", lambda: read_picture(told))
        seen = self._memory.recall(about, "seen", lambda: picture.eight_bits)
        region = _region(request, *seen.shape[:2])
        photo = self._memory.recall(about, "photo", lambda: _origin(request, seen))
        own = photo is not None and photo.path is not None and not by_hand
        source = self._memory.recall(about, "own pixels", photo.pixels) if own and photo is not None else seen
        restorer = self._restorer(request)
        embedding = self._memory.recall(about, f"embedding by {restorer.name}, {own}", lambda: restorer.embed(source))
        tables = photo.header.tables if photo is not None else None
        if by_hand:
            embedding, tables = _by_hand(embedding, by_hand)
        constrain = bool(request.get("constrain", True)) and not by_hand
        settings = {"strength": strength, "texture": texture}
        restored = restored_part(
            *(self._memory, about, source, region, restorer, embedding, settings),
            *(photo if constrain else None, tables, report),
        )
        before = seen[region]
        if strength == 0:
            restored = before
        picture.region(*region).changed(before, restored).tofile(into)
        return {"qf": round(embedding.qf, 1)}

    def _restore(self, request: Mapping[str, Any], report: Report) -> Answer:
        into = request.get("into")
        strength, texture = (_number(request, name, 1.0, 0, 1) for name in ("strength", "texture"))
        by_hand = _number(request, "qf", 0.0, 0, 100)
        if not isinstance(into, str):
            raise RequestRefused("'into' must name the file for the result")
        picture = read_picture(_part(request, "picture"))
        seen = picture.eight_bits
        rows, columns = _region(request, *seen.shape[:2])
        restorer = self._restorer(request)
        photo = _origin(request, seen)
        # The file's own pixels are what the command line sees; a JPEG that was made anew has only tables to give.
        source = photo.pixels() if photo is not None and photo.path is not None and not by_hand else seen
        embedding = restorer.embed(source)
        tables = photo.header.tables if photo is not None else None
        if by_hand:
            embedding, tables = _by_hand(embedding, by_hand)
        constrain = bool(request.get("constrain", True)) and photo is not None and not by_hand
        if strength == 0:
            restored: NDArray[Any] = seen
        else:
            window = tuple(
                _widened(part, side, restorer.card) for part, side in zip((rows, columns), seen.shape, strict=False)
            )
            part = np.ascontiguousarray(source[window])
            levels = restorer.restore_levels(
                part, strength=strength, texture=texture, tables=tables, embedding=embedding, progress=report
            )
            restored = _settled(levels, window, source, photo if constrain else None, embedding.qf)
        before = seen[rows, columns]
        changed = picture.region(rows, columns).changed(before, restored[rows, columns])
        changed.tofile(into)
        return {"qf": round(embedding.qf, 1), "header_qf": round(photo.header.qf, 1) if photo else None}

    def _restorer(self, request: Mapping[str, Any]) -> Restorer:
        from codiff_batch.engine import Restorer

        name = str(request.get("model") or DEFAULT_MODEL)
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            self._loaded = name, Restorer.load(name, self._device, models_dir=self._models_dir)
        return self._loaded[1]


def _by_hand(embedding: Embedding, qf: float) -> tuple[Embedding, tuple[NDArray[np.uint16], ...]]:
    """What the network is told to have happened, in place of what the file and CaVE say."""
    tables = tuple(ijg_table(max(1, round(qf)), chroma=chroma) for chroma in (False, True))
    return replace(embedding, qf=qf), tables


def _settled(
    levels: NDArray[np.float32],
    window: tuple[slice, ...],
    source: NDArray[np.uint8],
    photo: JpegPhoto | None,
    qf: float,
) -> NDArray[Any]:
    """The whole picture with the window restored, inside the JPEG's cells where there is one."""
    whole = source.astype(np.float32)
    whole[window] = levels
    if photo is None:
        return whole
    from codiff_batch.engine.photo import settle

    return settle(whole, photo, qf)


def _origin(request: Mapping[str, Any], pixels: NDArray[np.uint8]) -> JpegPhoto | None:
    file, settings = request.get("jpeg"), request.get("jpeg_settings")
    try:
        return jpeg_behind(pixels, Path(file) if file else None, bytes.fromhex(settings) if settings else None)
    except (TypeError, ValueError) as error:
        raise RequestRefused(
            f"'jpeg' must be a path and 'jpeg_settings' bytes as hexadecimal digits: {error}"
        ) from None


def _part(request: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = request.get(name)
    if not isinstance(part, Mapping):
        raise RequestRefused(f"{name!r} is missing")
    return part


def _number(request: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RequestRefused(f"{name!r} must be a number from {low} to {high}, not {value!r}")
    return float(value)


def _region(request: Mapping[str, Any], height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of ``region``, [x, y, width, height], or all."""
    region = request.get("region", [0, 0, width, height])
    try:
        x, y, w, h = (int(value) for value in region)
    except (TypeError, ValueError):
        raise RequestRefused("'region' must be [x, y, width, height]") from None
    if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
        raise RequestRefused(f"region {region} does not lie in a picture of {width}x{height}")
    return slice(y, y + h), slice(x, x + w)


def _widened(part: slice, side: int, card: ModelCard) -> slice:
    """A stretch with as much around it as tiles share, on the grids of the network and of JPEG's largest blocks."""
    margin, grid = card.overlap, math.lcm(card.multiple, 16)
    start = max(0, part.start - margin) // grid * grid
    return slice(start, min(side, -(-(part.stop + margin) // grid) * grid))
