"""Erf: only as a part of GELU. The step it becomes is private to the passes and must be gone after them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.program.functions import erf
from omniconv.program.steps import PostOp


def _lower(_node: Node, inputs: Operands, build: Builder) -> Operand:
    return build.map(build.value(inputs[0], "the input X"), PostOp("erf"))


def _fold(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    budget.take(x.shape, 64, "a constant")
    return erf(x.astype(np.float64)).astype(x.dtype)


register("Erf", lower=_lower, fold=_fold)
