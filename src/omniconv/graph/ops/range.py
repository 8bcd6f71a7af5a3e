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


def _fold(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    start, limit, delta = (as_scalar(item, "an input of Range") for item in arrays)
    dtype = as_constant(arrays[0], "start").dtype
    if not delta or not all(map(math.isfinite, (start, limit, delta))):
        raise ModelError(f"Range from {start} to {limit} by {delta}", need="finite numbers, delta not 0")
    count = max(math.ceil(min((limit - start) / delta, 2.0**62)), 0)
    budget.take((count,), 16, "a range")
    return (np.arange(count) * delta + start).astype(dtype)


register("Range", fold=_fold, since=11)
