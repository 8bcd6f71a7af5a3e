"""Shape and Size: constants, because every shape is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, shape_of
from omniconv.graph.operator import register


def _evaluate(node: Node, operand: Operand) -> AnyArray:
    shape = shape_of(operand, "the input data")
    if node.op == "Size":
        return np.array(math.prod(shape), np.int64)
    start, end = node.integer("start", 0), node.integer("end", len(shape))
    return np.array(shape[slice(*slice(start, end).indices(len(shape)))], np.int64)


def _lower(node: Node, inputs: Operands, _build: Builder) -> Operand:
    return _evaluate(node, inputs[0])


def _fold(node: Node, arrays: Sequence[AnyArray | None], _budget: Budget) -> AnyArray:
    return _evaluate(node, arrays[0])


register("Shape", lower=_lower, fold=_fold, truths=True)
register("Size", lower=_lower, fold=_fold, truths=True)
