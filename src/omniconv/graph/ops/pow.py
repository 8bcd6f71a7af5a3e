"""Pow and Reciprocal. Constant exponents of 1/2, 1, 2, 3 and 4 are a root and products; others are C's ``pow``.

A power of 1/2 is the square root, as PyTorch has it: NaN for -infinity, where C's ``pow`` gives infinity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_scalar, broadcast
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.ops.arithmetic import combine
from omniconv.program.steps import PostOp


def _lower_pow(_node: Node, inputs: Operands, build: Builder) -> Operand:
    x, y = inputs
    if not isinstance(x, Ref) or isinstance(y, Ref) or y is None:
        return combine(x, y, "pow", build)
    exponent = as_scalar(y, "the exponent Y") if y.size == 1 and broadcast(x.shape, y.shape) == x.shape else None
    if exponent == 1.0:
        return x
    if exponent == 0.5:
        return build.activate(x, "sqrt")
    if exponent in (2.0, 3.0):
        return build.map(x, *(PostOp("mul", x.name),) * (int(exponent) - 1))
    if exponent == 4.0:
        square = build.map(x, PostOp("mul", x.name), y=build.fresh("square"))
        return build.map(square, PostOp("mul", square.name))
    return combine(x, y.astype(np.float64), "pow", build)


def _fold_pow(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x, y = arrays
    assert x is not None
    assert y is not None
    budget.take(broadcast(x.shape, y.shape), 8, "a constant")
    if x.dtype.kind in "iu" and y.dtype.kind in "iu" and y.size and int(y.min()) < 0:
        raise ModelError("Pow of integer constants with a negative exponent", need="exponents of 0 or more")
    return np.asarray(np.power(x, y)).astype(x.dtype)


def _lower_reciprocal(_node: Node, inputs: Operands, build: Builder) -> Operand:
    return build.map(build.value(inputs[0], "the input X"), PostOp("rdiv", scalar(1.0)))


def _fold_reciprocal(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    budget.take(x.shape, x.dtype.itemsize, "a constant")
    return np.asarray(np.reciprocal(x))


register("Pow", lower=_lower_pow, fold=_fold_pow, since=7)
register("Reciprocal", lower=_lower_reciprocal, fold=_fold_reciprocal)
