"""Constant and ConstantOfShape. A constant of one value keeps one value in memory until it is used as weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_integers
from omniconv.graph.operator import register


def _fold_constant(node: Node, _arrays: Sequence[AnyArray | None], _budget: Budget) -> AnyArray:
    if len(node.attributes) != 1:
        raise ModelError(f"Constant has {len(node.attributes)} values", need="exactly one")
    key, value = next(iter(node.attributes.items()))
    match value:
        case np.ndarray():
            return value
        case int():
            return np.array(value, np.int64)
        case float():
            return np.array(value, np.float32)
        case tuple() if key in ("value_ints", "value_floats"):
            return np.array(value, np.int64 if key == "value_ints" else np.float32)
    raise UnsupportedError(f"Constant with {key}", need="value, value_int(s) or value_float(s)")


def _fold_constant_of_shape(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    shape = as_integers(arrays[0], "the input shape")
    value = node.tensor("value")
    value = np.zeros(1, np.float32) if value is None else value
    if value.size != 1:
        raise ModelError(f"value has shape {value.shape}", need="one element")
    budget.take(shape, value.dtype.itemsize, "a constant")
    return np.broadcast_to(value.reshape(()), shape)


register("Constant", fold=_fold_constant)
register("ConstantOfShape", fold=_fold_constant_of_shape, since=9)
