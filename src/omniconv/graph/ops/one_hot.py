"""OneHot: a new axis that is *on* at one place and *off* elsewhere; off everywhere for an index outside of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_constant, as_scalar, normalise_axis
from omniconv.graph.operator import register


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    indices, values = as_constant(arrays[0], "the input indices"), as_constant(arrays[2], "the input values")
    number = as_scalar(arrays[1], "the input depth")
    if not 1 <= number < math.inf or values.shape != (2,):
        raise ModelError(
            f"depth {number}, values of shape {values.shape}", need="a depth from 1, an off and an on value"
        )
    depth = int(number)
    axis = normalise_axis(node.integer("axis", -1), indices.ndim + 1)
    shape = (*indices.shape[:axis], depth, *indices.shape[axis:])
    budget.take(shape, values.dtype.itemsize, "a constant")
    result = np.full(shape, values[0])
    inside = (indices >= -depth) & (indices < depth)
    # An index outside is put at the place 0, and takes what is there already.
    places = np.where(inside, np.where(indices < 0, indices + depth, indices), 0).astype(np.int64)
    written = np.where(inside, values[1], values[0])
    np.put_along_axis(result, np.expand_dims(places, axis), np.expand_dims(written, axis), axis)
    return result


register("OneHot", fold=_fold, since=9)
