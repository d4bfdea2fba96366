"""Images that stay on disk until their pixels are needed, so that a list of photos does not fill the memory."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import folder_paths
import numpy as np
import torch
from torch.utils._pytree import tree_map_only

KNOWN_WITHOUT_PIXELS = {
    torch.Tensor.shape.__get__,
    torch.Tensor.dtype.__get__,
    torch.Tensor.device.__get__,
    torch.Tensor.ndim.__get__,
    torch.Tensor.layout.__get__,
    torch.Tensor.requires_grad.__get__,
    torch.Tensor.is_sparse.__get__,
    torch.Tensor.size,
    torch.Tensor.dim,
    torch.Tensor.numel,
    torch.Tensor.element_size,
    torch.Tensor.is_floating_point,
    torch.Tensor.__len__,
    torch.Tensor.__hash__,
}


class Stored(torch.Tensor):
    """A float32 image (1, H, W, 3) that is read again by each operation on it, and never kept.

    To other nodes it is a tensor like any other. Only what looks at its shape alone reads nothing.
    """

    _read: Callable[[], torch.Tensor]

    @staticmethod
    def __new__(cls: type[Self], height: int, width: int, read: Callable[[], torch.Tensor]) -> Self:
        """Describe an image.

        Args:
            height, width: of the image.
            read: gives it.
        """
        image = torch.Tensor._make_wrapper_subclass(cls, (1, height, width, 3), dtype=torch.float32)
        image._read = read
        return image

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let operations work on the pixels, and give plain tensors."""
        if function in KNOWN_WITHOUT_PIXELS:
            with torch._C.DisableTorchFunctionSubclass():
                return function(*args, **(kwargs or {}))
        args, kwargs = tree_map_only(cls, lambda image: image._read(), (tuple(args), kwargs or {}))
        return function(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The same where torch's own code does the asking."""
        args, kwargs = tree_map_only(cls, lambda image: image._read(), (tuple(args), kwargs or {}))
        return function(*args, **kwargs)

    def __repr__(self, **_: Any) -> str:
        return f"Stored({tuple(self.shape)})"


def stored(image: torch.Tensor) -> torch.Tensor:
    """An image (1, H, W, 3) put on disk, in ComfyUI's temporary folder, for as long as it is in use.

    Values that are whole 8-bit levels take a byte each, others four; both come back bit for bit.
    """
    levels = image.mul(255).round().clamp(0, 255).to(torch.uint8)
    exact = torch.equal(levels.to(torch.float32) / 255, image)
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix="codiff-", suffix=".npy", dir=folder)
    with os.fdopen(handle, "wb") as file:
        np.save(file, (levels if exact else image).cpu().numpy())
    device = image.device

    def read() -> torch.Tensor:
        values = torch.from_numpy(np.load(name)).to(device)
        return values.to(torch.float32) / 255 if exact else values

    result = Stored(*image.shape[1:3], read)
    weakref.finalize(result, Path(name).unlink, missing_ok=True)
    return result
