"""A restored picture that stays on a GPU until it is settled there: coefficients go up, 8-bit pixels come down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codiff_batch.engine.device import as_current
from codiff_batch.engine.memory import give_back, is_out_of_memory
from codiff_batch.engine.stream import LUMA, Pixels
from codiff_batch.engine.transfers import UnderWay, fetched, send
from codiff_batch.jpeg import project_to_cells

if TYPE_CHECKING:
    from codiff_batch.jpeg import JpegPhoto


class TorchArrays:
    """torch's tensors on a device, for the projection."""

    pixels_at_a_time = 1 << 21
    """Enough to keep a GPU busy; all that is computed of them takes about 300 MB."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def put(self, array: NDArray[Any]) -> Tensor:
        """Bring an array to the device."""
        return send(array, self._device)

    def numbers(self, count: int) -> Tensor:
        """0, 1, 2 and so on."""
        return torch.arange(count, device=self._device)

    def empty(self, shape: Sequence[int]) -> Tensor:
        """Room for uint8."""
        return torch.empty(tuple(shape), dtype=torch.uint8, device=self._device)

    def permuted(self, array: Tensor, axes: Sequence[int]) -> Tensor:
        """A view with the axes in this order."""
        return array.permute(*axes)

    def product(self, rows: Tensor, matrix: Tensor) -> Tensor:
        """``rows @ matrix``."""
        return rows @ matrix


class OnDevice:
    """Restored levels on a GPU, for one thread at a time, whichever; a :class:`~codiff_batch.engine.stream.Kept`.

    Every method waits for what it queued, so nobody is using the memory when the levels are dropped, whatever the
    stream. If memory runs out on the device, the levels come down and the work is done here.

    Args:
        levels: float32 (H, W, 3) or (H, W) in [0, 255], computed to the end.
        stream: on which to work, so that this does not wait for what is queued to be restored.
    """

    def __init__(self, levels: Tensor, stream: torch.cuda.Stream | None = None) -> None:
        self._levels, self._stream = levels, stream

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The levels on the host, for ``np.asarray``."""
        return self._done(lambda levels: levels).astype(dtype or np.float32, copy=False)

    def make_neutral(self) -> None:
        """Turn levels (H, W, 3) into their luma, in place."""

        def step(levels: Tensor) -> Tensor:
            levels.copy_((levels @ send(LUMA, levels.device))[..., None].expand_as(levels))
            return levels[:1, :1]

        self._done(step)

    def in_8_bits(self) -> Pixels:
        """The levels, rounded to uint8."""
        return self._done(lambda levels: levels.round().to(torch.uint8))

    def in_cells(self, photo: JpegPhoto, pixels: Pixels) -> Pixels:
        """The levels inside a photo's cells; arguments and errors as of :func:`~codiff_batch.jpeg.project_to_cells`."""
        if torch.backends.cuda.matmul.fp32_precision == "tf32":
            # A host program allowed it; coefficients with 10 bits of fraction would miss their cells.
            projected: Pixels = project_to_cells(np.asarray(self), photo, pixels)
            return projected
        return self._done(lambda levels: project_to_cells(levels, photo, pixels, TorchArrays(levels.device)))

    def _done(self, step: Callable[[Tensor], Tensor]) -> NDArray[Any]:
        """What a step makes of the levels, on the host."""
        device = self._levels.device
        try:
            with as_current(device), torch.inference_mode(), torch.cuda.stream(self._stream):
                made = fetched(step(self._levels))
                UnderWay(device).wait()
                return made.numpy()
        except Exception as error:
            if device.type == "cpu" or not is_out_of_memory(error):
                raise
        give_back(device)
        self._levels = self._levels.cpu()
        return self._done(step)
