"""Operators that appear in the arithmetic of shapes and are evaluated there; never on computed values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_constant, broadcast
from omniconv.graph.operator import register


def _modulo(a: AnyArray, b: AnyArray) -> AnyArray:
    if a.dtype.kind in "iu" and not np.all(b):
        raise ModelError("Mod of integer constants by zero", need="divisors other than 0")
    return np.asarray(np.mod(a, b))


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.round,
    "Sign": np.sign,
    "Log": np.log,
    "Not": np.logical_not,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Mod": _modulo,
    "Where": np.where,
}


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    given = [as_constant(item, "an input") for item in arrays]
    budget.take(broadcast(*(tuple(item.shape) for item in given)), 8, "a constant")
    result = np.asarray((np.fmod if node.op == "Mod" and node.integer("fmod", 0) else _FUNCTIONS[node.op])(*given))
    return result if result.dtype == bool else result.astype(given[-1].dtype)


for _name in _FUNCTIONS:
    register(_name, fold=_fold)
