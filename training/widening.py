"""A wider network that computes the same as a narrower one, so that training can continue instead of starting again.

The narrow network's weights become the first channels of every layer. New units keep their fresh weights for what they
read, and nothing that was there before reads them yet. So the function is the same, no two units are alike, and the
first gradients reach every new weight that leads to an old unit. (Net2Net, Chen et al. 2015, copies units instead and
needs noise to separate them.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from codiff_batch.networks.compact_unet import CrossAttention, ModulatedBlock


def widened(weights: Mapping[str, Tensor], wide: nn.Module) -> dict[str, Tensor]:
    """A state for a wider network that computes the function of narrower weights.

    Args:
        weights: of a network of the same kind and depth, by the names of ``wide``; no layer is wider than there.
        wide: with fresh weights, which new units keep.

    Raises:
        ValueError: a layer is missing, does not fit into the wide network's, or is one too many.
    """
    if surplus := sorted(set(weights) - set(wide.state_dict())):
        raise ValueError(f"the wide network has no {surplus[0]}")
    groups, queries = _layout(wide)
    state = {}
    for name, fresh in wide.state_dict().items():
        narrow = weights.get(name)
        if narrow is None or not _fits(narrow, fresh):
            raise ValueError(f"{name} of the narrow network is missing or does not fit into the wide one")
        rows, columns = groups.get(name, (1, 1))
        state[name] = _embedded(narrow, fresh, rows, columns)
        if name in queries:
            # Attention divides by the root of a head's width, and a new part of a query must not meet its key yet.
            per_head = _grouped(state[name], rows, 1)
            kept = narrow.shape[0] // rows
            per_head[:, kept:] = 0
            per_head *= math.sqrt(fresh.shape[0] / narrow.shape[0])
    return state


def _fits(narrow: Tensor, wide: Tensor) -> bool:
    """Return True if a weight is no larger than another in any dimension."""
    return narrow.dim() == wide.dim() and all(a <= b for a, b in zip(narrow.shape, wide.shape, strict=True))


def _layout(network: nn.Module) -> tuple[dict[str, tuple[int, int]], set[str]]:
    """Weights whose rows or columns form groups that grow separately, and which of them are queries."""
    groups: dict[str, tuple[int, int]] = {}
    queries = set()
    for name, module in network.named_modules():
        for kind in ("weight", "bias"):
            if isinstance(module, ModulatedBlock):
                groups[f"{name}.film.{kind}"] = 2, 1  # scales, shifts
            elif isinstance(module, CrossAttention):
                groups[f"{name}.to_query.{kind}"] = module.heads, 1
                groups[f"{name}.to_key_value.{kind}"] = 2 * module.heads, 1
                groups[f"{name}.to_out.{kind}"] = 1, module.heads
                queries.add(f"{name}.to_query.{kind}")
    return groups, queries


def _embedded(narrow: Tensor, fresh: Tensor, rows: int, columns: int) -> Tensor:
    """The narrow weight as the first units of each group of a fresh one; old units read no new ones."""
    state = fresh.detach().clone()
    if state.dim() == 0:
        return narrow.to(state)
    old, whole = _grouped(narrow, rows, columns), _grouped(state, rows, columns)
    whole[:, : old.shape[1]] = 0
    whole[:, : old.shape[1], :, : old.shape[3]] = old
    return state


def _grouped(weight: Tensor, rows: int, columns: int) -> Tensor:
    """View of a weight (R, C, ...) or bias (R,) as (groups, R / groups, groups, C / groups, rest)."""
    width = weight.shape[1] if weight.dim() > 1 else 1
    # A bias has one column, which is in one group.
    columns = columns if weight.dim() > 1 else 1
    return weight.view(rows, weight.shape[0] // rows, columns, width // columns, -1)
