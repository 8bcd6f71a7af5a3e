"""NonZero: the indices of what is not zero, one row an axis; a number without axes counts as a list of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_constant
from omniconv.graph.operator import register


def _fold(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = as_constant(arrays[0], "the input X")
    flat = np.flatnonzero(x)
    shape = x.shape or (1,)
    budget.take((len(shape), flat.size), 8, "a constant")
    return np.array(np.unravel_index(flat, shape), np.int64)


register("NonZero", fold=_fold, since=9)
