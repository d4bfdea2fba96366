"""How near a picture is to another one. A new metric is a function here and its row in :data:`METRICS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SSIM_WINDOW = 11
"""Smallest side, in pixels, of a picture that SSIM can be taken of."""


def psnr(image: Pixels, reference: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all channels; infinite for equal pictures."""
    error = np.mean((image.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(image: Pixels, reference: Pixels) -> float:
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window, sigma 1.5, mean over channels.

    Raises:
        ImportError: scikit-image is not installed; it is an extra of its own.
    """
    from skimage.metrics import structural_similarity

    axis = 2 if image.ndim == 3 else None
    return float(
        structural_similarity(  # type: ignore[no-untyped-call]
            image,
            reference,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=axis,
            data_range=255,
        )
    )


class Metric(NamedTuple):
    """A measure that needs no network, as comparisons and evaluations show it."""

    title: str
    measure: Callable[[Pixels, Pixels], float]
    """Of a picture and its reference, of one shape; raises ImportError where what it needs is not installed."""
    digits: int
    unit: str = ""
    smallest: int = 1
    """Side in pixels of the smallest picture that it can be taken of."""


METRICS = (Metric("PSNR", psnr, 2, " dB"), Metric("SSIM", ssim, 4, smallest=SSIM_WINDOW))
"""In the order in which they are shown."""
