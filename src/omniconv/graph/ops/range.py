"""Range of constants."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_constant, as_scalar
from omniconv.graph.operator import register
from omniconv.integers import ceil_div


def _fold(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    dtype = as_constant(arrays[0], "start").dtype
    start, limit, delta = (as_scalar(item, "an input of Range") for item in arrays)
    if not delta or not all(map(math.isfinite, (start, limit, delta))):
        raise ModelError(f"Range from {start} to {limit} by {delta}", need="finite numbers, delta not 0")
    if isinstance(start, int) and isinstance(limit, int) and isinstance(delta, int):
        count = max(ceil_div(limit - start, delta), 0)
    else:
        count = math.ceil(min(max((limit - start) / delta, 0.0), 2.0**62))
    budget.take((count,), 16, "a range")
    return (np.arange(count) * delta + start).astype(dtype)


register("Range", fold=_fold, since=11)
