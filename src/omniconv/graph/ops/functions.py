"""Functions of one variable: one table from ONNX's name to the function; constants are folded with the same formula.

ThresholdedRelu is ``x if x > alpha else 0``, and Shrink ``x + bias`` below -lambd, ``x - bias`` above lambd, else 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_constant
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.program.functions import FUNCTIONS
from omniconv.program.steps import PostOp

TABLE: Final = {
    "Log": "log", "Erf": "erf", "Sign": "sign", "Floor": "floor", "Ceil": "ceil", "Round": "round", "Sin": "sin",
    "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh",
    "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh", "Softplus": "softplus", "Softsign": "softsign",
    "Mish": "mish",
}  # fmt: skip


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    return build.map(build.value(inputs[0], "the input"), PostOp(TABLE[node.op]))


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = as_constant(arrays[0], "the input")
    budget.take(x.shape, 64, "a constant")
    if x.dtype.kind in "iu":
        return np.sign(x)
    with np.errstate(all="ignore"):
        return FUNCTIONS[TABLE[node.op]].evaluate(x.astype(np.float64)).astype(x.dtype)


def _lower_thresholded(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X")
    return build.map(x, PostOp("threshold", scalar(node.number("alpha", 1.0))))


def _lower_shrink(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input")
    limit, bias = node.number("lambd", 0.5), node.number("bias", 0.0)
    low = build.map(x, PostOp("less", scalar(-limit)), y=build.fresh("low"))
    high = build.map(x, PostOp("greater", scalar(limit)), y=build.fresh("high"))
    above = (PostOp("sub", scalar(bias)), PostOp("keep", high.name), PostOp("drop", low.name))
    upper = build.map(x, *above, y=build.fresh("above"))
    below = (PostOp("add", scalar(bias)), PostOp("keep", low.name), PostOp("add", upper.name))
    return build.map(x, *below, PostOp("add", scalar(0.0)))


for _name in TABLE:
    register(_name, lower=_lower, fold=_fold, open_sizes=True)
register("ThresholdedRelu", lower=_lower_thresholded, open_sizes=True)
register("Shrink", lower=_lower_shrink, open_sizes=True)
