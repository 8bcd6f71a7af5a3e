"""GatherElements on the host: one element for each index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_constant, normalise_axis
from omniconv.graph.operator import register


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x, indices = as_constant(arrays[0], "the input data"), as_constant(arrays[1], "the input indices")
    axis = normalise_axis(node.integer("axis", 0), x.ndim)
    if indices.ndim != x.ndim or any(indices.shape[other] > x.shape[other] for other in range(x.ndim) if other != axis):
        raise ModelError(f"indices of shape {indices.shape} for {x.shape}", need="no longer axes beside the one")
    size = x.shape[axis]
    if indices.size and not (-size <= int(indices.min()) and int(indices.max()) < size):
        raise ModelError(
            f"indices {int(indices.min())} to {int(indices.max())} on an axis of {size}", need="valid ones"
        )
    budget.take(indices.shape, 8 + x.dtype.itemsize, "a result")
    part = x[tuple(slice(None) if other == axis else slice(indices.shape[other]) for other in range(x.ndim))]
    return np.take_along_axis(part, np.where(indices < 0, indices + size, indices).astype(np.int64), axis)


register("GatherElements", fold=_fold)
