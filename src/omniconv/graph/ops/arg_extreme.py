"""ArgMax and ArgMin: where the extreme of each row is, the first of equals or the last. NaN is both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_constant, normalise_axis
from omniconv.graph.operator import register


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = as_constant(arrays[0], "the input data")
    axis = normalise_axis(node.integer("axis", 0), x.ndim)
    if not x.shape[axis]:
        raise ModelError(f"{node.op} along an empty axis of {x.shape}", need="at least one entry")
    budget.take((*x.shape[:axis], *x.shape[axis + 1 :]), 8, "a constant")
    find = np.argmax if node.op == "ArgMax" else np.argmin
    last = bool(node.integer("select_last_index", 0))
    found = find(np.flip(x, axis) if last else x, axis, keepdims=bool(node.integer("keepdims", 1)))
    return np.asarray(x.shape[axis] - 1 - found if last else found).astype(np.int64, copy=False)


register("ArgMax", fold=_fold)
register("ArgMin", fold=_fold)
