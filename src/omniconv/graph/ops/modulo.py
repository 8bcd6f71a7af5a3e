"""Mod: of computed values the remainder of C's ``fmod``; of integer constants also that of Python."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_constant, broadcast
from omniconv.graph.operator import register
from omniconv.graph.ops.arithmetic import combine


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    if not node.integer("fmod", 0):
        raise UnsupportedError("Mod of floats with fmod=0", need="fmod=1")
    return combine(inputs[0], inputs[1], "fmod", build)


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    a, b = (as_constant(item, "an input") for item in arrays)
    budget.take(broadcast(a.shape, b.shape), 8, "a constant")
    if a.dtype.kind in "iu" and not np.all(b):
        raise ModelError("Mod of integer constants by zero", need="divisors other than 0")
    with np.errstate(all="ignore"):
        return np.asarray(np.fmod(a, b) if node.integer("fmod", 0) else np.mod(a, b)).astype(a.dtype)


register("Mod", lower=_lower, fold=_fold)
