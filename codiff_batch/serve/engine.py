"""What the engine does for a client: introduce itself, estimate a picture's quality, restore it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codiff_batch import __version__
from codiff_batch.engine.photo import Decoded, restore
from codiff_batch.engine.region import Region
from codiff_batch.engine.settling import Restored, Settled
from codiff_batch.errors import RequestRefused
from codiff_batch.files.identity import same_file
from codiff_batch.jpeg import JpegPhoto
from codiff_batch.models.card import ModelCard, read_card
from codiff_batch.models.catalogue import DEFAULT_MODEL, available
from codiff_batch.serve.origin import jpeg_behind
from codiff_batch.serve.pixels import identity, read_picture, write_picture
from codiff_batch.serve.preview import Memory, preview
from codiff_batch.settings import Floats, Settings

if TYPE_CHECKING:
    from codiff_batch.engine import Restorer

PROTOCOL = 1

Answer = dict[str, Any]
Report = Callable[[int, int], None]


class Engine:
    """Answers requests, one at a time; keeps the model that was used last."""

    def __init__(self, device: str = "auto", models_dir: Path | None = None, precision: Floats = "auto") -> None:
        self._device, self._models_dir, self._precision = device, models_dir, precision
        self._loaded: tuple[tuple[str, str], Restorer] | None = None
        self._memory = Memory()

    def answer(self, request: Mapping[str, Any], report: Report) -> Answer:
        """Answer one request; ``report`` is called with (tiles done, tiles in total) and may raise to end it.

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
                raise RequestRefused(f"unknown request {other!r}")

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
            "header_qf": _rounded(photo.header.qf if photo else None),
        }

    def _preview(self, request: Mapping[str, Any], report: Report) -> Answer:
        """Like :meth:`_restore`, for a small region and with what is known from earlier calls."""
        into, told, restorer = _into(request), _part(request, "picture"), self._restorer(request)
        settings = _settings(request, restorer.card)
        about = (*identity(told), str(request.get("jpeg")), str(request.get("jpeg_settings")))
        picture = self._memory.recall(about, "picture", lambda: read_picture(told))
        seen = self._memory.recall(about, "seen", lambda: picture.eight_bits)
        place = _region(request, *seen.shape[:2])
        decoded = self._memory.recall(about, "decoded", lambda: _decoded(seen, _origin(request, seen)))
        restored = preview(self._memory, about, decoded, place, restorer, settings, report)
        changed = np.asarray(restored.levels) if restored.settled is not Settled.UNCHANGED else seen[place]
        write_picture(into, picture.region(*place).changed(seen[place], changed))
        return _told(restored)

    def _restore(self, request: Mapping[str, Any], report: Report) -> Answer:
        into, picture = _into(request), read_picture(_part(request, "picture"))
        seen = picture.eight_bits
        place = _region(request, *seen.shape[:2])
        restorer = self._restorer(request)
        settings = _settings(request, restorer.card)
        region = Region.of(place, seen.shape[:2], restorer.card)
        restored = restore(_decoded(seen, _origin(request, seen)), restorer, settings, region=region, progress=report)
        changed = np.asarray(restored.levels) if restored.settled is not Settled.UNCHANGED else seen[place]
        write_picture(into, picture.region(*place).changed(seen[place], changed))
        return _told(restored)

    def _restorer(self, request: Mapping[str, Any]) -> Restorer:
        from codiff_batch.engine import Restorer

        name, floats = (
            str(request.get(key) or usual) for key, usual in (("model", DEFAULT_MODEL), ("precision", self._precision))
        )
        if self._loaded is None or self._loaded[0] != (name, floats):
            self._loaded = None
            restorer = Restorer.load(name, self._device, models_dir=self._models_dir, precision=floats)
            self._loaded = (name, floats), restorer
        return self._loaded[1]


def _into(request: Mapping[str, Any]) -> Path:
    into = request.get("into")
    if not isinstance(into, str):
        raise RequestRefused("'into' must name the file for the result")
    photo = request.get("jpeg")
    if isinstance(photo, str) and same_file(Path(into), Path(photo)):
        raise RequestRefused("'into' is the photo itself, which is never written to")
    return Path(into)


def _settings(request: Mapping[str, Any], card: ModelCard) -> Settings:
    """How to restore.

    A host's sliders always have a value: 0 means no quality by hand, and an amount of texture may come with a model
    that adds none.
    """
    settings = Settings.read({**request, "qf": request.get("qf") or None})
    return settings if card.adds_texture else replace(settings, texture=None)


def _decoded(seen: NDArray[np.uint8], photo: JpegPhoto | None) -> Decoded:
    """The picture to restore: the file's own pixels, which are what the command line sees, where there is a file."""
    if photo is None:
        return Decoded(seen)
    return Decoded.of(photo, pixels=None if photo.path is not None else seen)


def _told(restored: Restored) -> Answer:
    return {
        "qf": _rounded(restored.verdict.estimated_qf),
        "header_qf": _rounded(restored.verdict.header_qf),
        "settled": restored.settled.code,
        "reason": restored.reason,
    }


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


def _region(request: Mapping[str, Any], height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of ``region``, [x, y, width, height], or all."""
    region = request.get("region", [0, 0, width, height])
    try:
        x, y, w, h = (int(value) for value in region)
    except (TypeError, ValueError, OverflowError):
        raise RequestRefused("'region' must be [x, y, width, height]") from None
    if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
        raise RequestRefused(f"region {region} does not lie in a picture of {width}x{height}")
    return slice(y, y + h), slice(x, x + w)


def _rounded(qf: float | None) -> float | None:
    return None if qf is None else round(qf, 1)
