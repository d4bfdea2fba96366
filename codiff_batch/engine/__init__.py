"""The Restorer: estimate, tile, restore, blend, colour and constrain. The public Python API.

Importing this package imports no torch; :class:`Restorer` does when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codiff_batch.engine.judge import Action, Verdict, header_decides, judge

if TYPE_CHECKING:
    from codiff_batch.engine.photo import restore_photo
    from codiff_batch.engine.restorer import Restorer

__all__ = ["Action", "Restorer", "Verdict", "header_decides", "judge", "restore_photo"]


def __getattr__(name: str) -> object:
    if name == "Restorer":
        from codiff_batch.engine.restorer import Restorer

        return Restorer
    if name == "restore_photo":
        from codiff_batch.engine.photo import restore_photo

        return restore_photo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
