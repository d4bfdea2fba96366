"""The Restorer: estimate, tile, restore, blend, colour and constrain. The public Python API.

Importing this package imports no torch; the names that need it do when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from codiff_batch.engine.judge import Action, Verdict, judge

if TYPE_CHECKING:
    from codiff_batch.engine.photo import Decoded, restore, restore_photo
    from codiff_batch.engine.restorer import Restorer
    from codiff_batch.engine.settling import Restored, Settled, settle
    from codiff_batch.engine.stream import Embedding, Request, Result

_LAZY = {
    "Decoded": "photo",
    "Restored": "settling",
    "Settled": "settling",
    "restore": "photo",
    "Embedding": "stream",
    "Request": "stream",
    "Restorer": "restorer",
    "Result": "stream",
    "restore_photo": "photo",
    "settle": "settling",
}

__all__ = [
    "Action",
    "Decoded",
    "Embedding",
    "Request",
    "Restored",
    "Restorer",
    "Result",
    "Settled",
    "Verdict",
    "judge",
    "restore",
    "restore_photo",
    "settle",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
