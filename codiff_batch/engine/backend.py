"""What the scheduler needs from a runtime for networks; the only one is :mod:`~codiff_batch.engine.torch_backend`.

Every call that computes returns None if memory ran out, after releasing what it took; the scheduler then asks for
less. Nothing here knows torch: tokens are whatever a backend's own :meth:`Backend.look` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from codiff_batch.engine.stream import Embedding, Kept, Levels, Pixels, Request
from codiff_batch.engine.tiling import Tile


class Picture(Protocol):
    """What a backend keeps of a picture while its tiles are restored."""

    @property
    def kind(self) -> tuple[object, ...]:
        """Pictures of different kinds cannot share a batch."""


P = TypeVar("P", bound=Picture)


class UnderWay(Protocol):
    """Work that has been started."""

    def wait(self) -> bool:
        """Wait until it is done; return False if memory ran out. Errors that occurred meanwhile are raised here."""


class Landing(Protocol):
    """A restored picture on its way."""

    def levels(self) -> Levels | Kept | None:
        """Wait, and return levels 0..255, clipped, of the picture's shape; None if some were not finite."""


class Backend(Protocol[P]):
    """CaVE and the generator of one model on one device."""

    @property
    def name(self) -> str:
        """The device, as messages call it."""

    @property
    def floats(self) -> str:
        """What the generator computes in, such as ``float32``."""

    @property
    def busy_seconds(self) -> float:
        """Time that the host has spent on the networks, including the wait for them."""

    @property
    def ahead(self) -> int:
        """How many batches to have in progress while the next is prepared; 0 if nothing runs in the background."""

    @property
    def room(self) -> int:
        """How many pixels of finished pictures it may keep until they are settled; 0 if it keeps none."""

    @property
    def can_widen(self) -> bool:
        """Return True if :meth:`open` has a wider range of floats to offer."""

    @property
    def can_glance(self) -> bool:
        """Return True if a glance is quicker than a look."""

    def look(self, crops: Sequence[Pixels], *, glance: bool = False) -> list[tuple[Any, float]] | None:
        """Return CaVE's tokens (1, K, D) and quality factor of each of several crops of one size.

        Args:
            glance: in fewer bits; only if it :attr:`can_glance`.
        """

    def open(self, request: Request, embedding: Embedding, size: tuple[int, int], *, wide: bool) -> P:
        """Bring a picture to the device, padded to (height, width) by mirroring it at the right and bottom."""

    def start(self, tiles: Sequence[tuple[P, Tile]], shape: tuple[int, int, int], beside: int) -> UnderWay | None:
        """Start restoring tiles and adding them to their pictures, in one step of (tiles, height, width).

        ``beside`` is how many other steps are under way or can follow at once, for a CPU to share out its threads.
        """

    def finish(self, picture: P, strength: float) -> Landing:
        """Finish a picture whose tiles have all been started: colours corrected, blended with the source.

        Its levels are asked for when they have all been waited for.
        """
