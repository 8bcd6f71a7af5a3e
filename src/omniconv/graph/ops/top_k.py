"""TopK: the k largest or smallest along an axis, in order; of equals the one that comes first. NaN is the largest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_constant, as_integers, normalise_axis
from omniconv.graph.operator import register

_FEW = 8
"""Below such a part of an axis, what may be wanted is found before it is sorted."""
_PARTS = 256
"""Parts of an axis whose best entries bound the wanted ones, or four for each of these where they are more."""


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> Sequence[AnyArray]:
    x = as_constant(arrays[0], "the input X")
    axis = normalise_axis(node.integer("axis", -1), x.ndim)
    counts = (node.integer("k"),) if node.version < 10 else as_integers(arrays[1], "the input K")
    if len(counts) != 1 or not 0 <= counts[0] <= x.shape[axis]:
        raise ModelError(f"K={counts[:16]} along an axis of {x.shape[axis]}", need="one integer, 0 up to its length")
    count, largest = counts[0], bool(node.integer("largest", 1))
    if not (count and x.size):
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        return [np.empty(shape, dtype) for dtype in (x.dtype, np.int64)]
    # Values and indices, and what is compared while they are found.
    budget.check(x.shape, 4 * max(x.dtype.itemsize, 8), "what is sorted")
    rows = x if axis == x.ndim - 1 else np.moveaxis(x, axis, -1)
    form = (*rows.shape[:-1], count)
    rows = rows.reshape(-1, x.shape[axis])
    places = _find(rows, count, largest=largest) if 0 < _FEW * count <= x.shape[axis] else None
    if places is None:
        places = _sort(rows, count, largest=largest)
    found = [item.reshape(form) for item in (_take(rows, places), places)]
    return found if axis == x.ndim - 1 else [np.ascontiguousarray(np.moveaxis(item, -1, axis)) for item in found]


def _take(rows: AnyArray, places: AnyArray) -> AnyArray:
    """The entries of each row at its places."""
    starts = np.arange(0, rows.size, max(rows.shape[-1], 1)).reshape(-1, 1)
    return np.take(rows, places + starts)


def _sort(rows: AnyArray, count: int, *, largest: bool) -> AnyArray:
    """Where the first ``count`` of each row are when it is in order."""
    if not largest:
        return np.argsort(rows, -1, kind="stable")[:, :count]
    # Read backwards, an order that keeps equals as they come is a falling one that keeps them, too.
    backwards = np.argsort(rows[:, ::-1], -1, kind="stable")[:, ::-1][:, :count]
    return np.asarray(rows.shape[-1] - 1 - backwards)


def _find(rows: AnyArray, count: int, *, largest: bool) -> AnyArray | None:
    """The same without an order of everything; ``None`` where an entry is no number.

    A row is read as parts that lie across each other. The last of the ``count`` best among the best of each part bounds
    the wanted entries: so many are at least as good. Few others are, and all of these are sorted.
    """
    length = rows.shape[-1]
    parts = max(4 * count, min(_PARTS, length // 4))
    deep = length // parts
    parts = length // deep
    choose = np.maximum if largest else np.minimum
    best = choose.reduce(rows[:, : deep * parts].reshape(len(rows), deep, parts), 1)
    tail = rows[:, deep * parts :]
    if rows.dtype.kind == "f" and (np.isnan(best).any() or np.isnan(tail).any()):
        return None
    at = parts - count if largest else count - 1
    bound = np.partition(best, at, -1)[:, at : at + 1]
    wanted = rows >= bound if largest else rows <= bound
    if np.count_nonzero(wanted) > 2 * len(rows) * count:
        equal = rows == bound
        wanted &= ~equal
        missing = count - np.count_nonzero(wanted, -1, keepdims=True)
        wanted |= equal & (np.cumsum(equal, -1) <= missing)
    places = np.flatnonzero(wanted)
    lines, keys = places // length, np.take(rows, places)
    if largest:
        keys = -keys if keys.dtype.kind == "f" else ~keys
    order = np.lexsort((keys, lines))  # of equals the first one comes first
    starts = np.searchsorted(lines, np.arange(len(rows)))
    return np.asarray(places[order[starts[:, None] + np.arange(count)]] % length)


register("TopK", fold=_fold)
