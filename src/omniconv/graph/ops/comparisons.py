"""Comparisons, what is made of truths, and Where.

A truth is 0 or 1 in the program: And is a product, Or a maximum, Not ``1 - a``, and Where the sum of what the condition
keeps of one value and drops of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, as_weights, broadcast
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.ops.arithmetic import combine
from omniconv.program.steps import Array, PostOp
from omniconv.spec import Activation

_NOT: Final = PostOp("rsub", scalar(1.0))
_BINARY: Final[dict[str, tuple[str, Callable[[Any, Any], Any]]]] = {
    "Equal": ("equal", np.equal), "Less": ("less", np.less), "LessOrEqual": ("less_equal", np.less_equal),
    "Greater": ("greater", np.greater), "GreaterOrEqual": ("greater_equal", np.greater_equal),
    "And": ("mul", np.logical_and), "Or": ("max", np.logical_or), "Xor": ("equal", np.logical_xor),
}  # fmt: skip


def _number(operand: Operand, what: str) -> Ref | Array:
    """An operand as numbers: truths are 0 and 1."""
    if isinstance(operand, Ref):
        return operand
    array = as_constant(operand, what)
    return array.astype(np.float32) if array.dtype == bool else as_weights(array, what)


def _lower_binary(node: Node, inputs: Operands, build: Builder) -> Operand:
    a, b = (_number(item, "an operand") for item in inputs)
    y = build.out()
    inner = build.fresh("equal") if node.op == "Xor" else y
    build.truths.add(inner)
    result = combine(a, b, _BINARY[node.op][0], build, y=inner)
    return build.decide(result, _NOT, y=y) if node.op == "Xor" else result


def _fold_binary(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    a, b = (as_constant(item, "an input") for item in arrays)
    budget.take(broadcast(a.shape, b.shape), 8, "a constant")
    return np.asarray(_BINARY[node.op][1](a, b))


def _lower_not(_node: Node, inputs: Operands, build: Builder) -> Operand:
    return build.decide(build.value(inputs[0], "the input X"), _NOT)


def _fold_not(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = as_constant(arrays[0], "the input X")
    budget.take(x.shape, 8, "a constant")
    return np.logical_not(x)


def _lower_is_nan(_node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X")
    return build.decide(x, PostOp("equal", x.name), _NOT)


def _lower_is_inf(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X")
    positive, negative = node.integer("detect_positive", 1), node.integer("detect_negative", 1)
    # Nothing equals NaN.
    wanted = scalar(math.nan if not (positive or negative) else math.inf if positive else -math.inf)
    size = (PostOp("act", activation=Activation.of("abs")),) if positive and negative else ()
    return build.decide(x, *size, PostOp("equal", wanted))


def _pick(value: Ref | Array, condition: Ref | Array, op: str, build: Builder) -> Ref | Array:
    """What the condition keeps or drops of a value; -0 elsewhere."""
    if isinstance(value, Ref) or isinstance(condition, Ref):
        return combine(value, condition, op, build, y=build.fresh(op))
    holds = condition != 0 if op == "keep" else condition == 0
    return np.asarray(np.where(holds, value, np.asarray(-0.0, value.dtype)))


def _lower_where(_node: Node, inputs: Operands, build: Builder) -> Operand:
    names = ("condition", "X", "Y")
    condition, x, y = (_number(item, f"the input {name}") for item, name in zip(inputs, names, strict=True))
    if not isinstance(condition, Ref):
        build.budget.take(broadcast(condition.shape, x.shape, y.shape), 16, "what is chosen")
    result = build.out()
    if all(item.truth if isinstance(item, Ref) else item.dtype == bool for item in inputs[1:] if item is not None):
        build.truths.add(result)
    kept, dropped = _pick(x, condition, "keep", build), _pick(y, condition, "drop", build)
    return combine(kept, dropped, "add", build, y=result)


def _fold_where(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    condition, x, y = (as_constant(item, "an input") for item in arrays)
    budget.take(broadcast(condition.shape, x.shape, y.shape), 8, "a constant")
    return np.asarray(np.where(condition, x, y)).astype(x.dtype)


for _name in _BINARY:
    register(_name, lower=_lower_binary, fold=_fold_binary, since=7, truths=True)
register("Not", lower=_lower_not, fold=_fold_not, truths=True)
register("IsNaN", lower=_lower_is_nan)
register("IsInf", lower=_lower_is_inf)
register("Where", lower=_lower_where, fold=_fold_where, truths=True)
