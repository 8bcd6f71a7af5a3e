"""Trilu: the upper or lower triangle of matrices, zeros elsewhere.

Of a computed value the entries are picked, a zero for those of the other triangle: a product with zeros would turn
infinities into NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from omniconv.errors import ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_constant, as_integers, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops.gather import pick
from omniconv.program.steps import PadStep


def _triangle(node: Node, inputs: Operands, budget: Budget) -> AnyArray:
    """Which entries of a matrix stay."""
    shape = shape_of(inputs[0], "the input")
    if len(shape) < 2:
        raise ShapeError(f"the input has shape {shape}", need="at least 2 axes")
    given = (0,) if inputs[1] is None else as_integers(inputs[1], "the input k")
    if len(given) != 1:
        raise ShapeError(f"the input k holds {len(given)} integers", need="one")
    k = max(-shape[-2] - 1, min(given[0], shape[-1] + 1))
    budget.check(shape[-2:], 64, "the triangle")
    upper = np.triu(np.ones(shape[-2:], np.bool_), k)
    return upper if node.integer("upper", 1) else np.tril(np.ones(shape[-2:], np.bool_), k)


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input", rank=2)
    kept = _triangle(node, inputs, build.budget).reshape(-1)
    if kept.all():
        return x
    count, size = math.prod(x.shape[:-2]), kept.size
    flat = build.rearrange(x, (count, size), y=build.fresh("flat"))
    padded = build.add(PadStep(flat.name, build.fresh("padded"), ((0, 0), (0, 1))), (count, size + 1))
    return pick(padded, count, np.where(kept, np.arange(size), size).astype(np.int64), x.shape, build)


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = as_constant(arrays[0], "the input")
    kept = _triangle(node, arrays, budget)
    budget.take(x.shape, x.dtype.itemsize, "a constant")
    return np.where(kept, x, np.zeros((), x.dtype))


register("Trilu", lower=_lower, fold=_fold, since=14)
