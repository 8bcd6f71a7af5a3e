"""Add, Sub, Mul, Div (two inputs) and Sum, Max, Min, Mean (any number), with NumPy broadcasting.

Opset 6 wrote broadcasting with attributes instead; that is read too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from omniconv.errors import ModelError, ShapeError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, as_weights, broadcast, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.program.steps import SWAPPED, PostOp


def combine(a: Operand, b: Operand, op: str, build: Builder, *, y: str | None = None) -> Ref:
    """Append ``a op b``, at least one of which is computed; the running value is the one of the result's shape."""
    if isinstance(b, Ref) and (not isinstance(a, Ref) or len(a.shape) < len(b.shape) or _size(a) < _size(b)):
        a, b, op = b, a, SWAPPED.get(op, op)
    assert isinstance(a, Ref)
    other = b.name if isinstance(b, Ref) else as_weights(b, "an operand")
    shape = broadcast(a.shape, b.shape if isinstance(b, Ref) else np.shape(other))
    return build.map(a, PostOp(op, other), y=y, shape=shape)


def _size(value: Ref) -> int:
    return math.prod(value.shape)


def _divide(a: AnyArray, b: AnyArray) -> AnyArray:
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    if not np.all(b):
        raise ModelError("division of integer constants by zero", need="divisors other than 0")
    quotient = np.abs(a) // np.abs(b)
    return np.asarray(np.where((a < 0) != (b < 0), -quotient, quotient)).astype(a.dtype)


_BINARY: Final[dict[str, tuple[str, Callable[[Any, Any], Any]]]] = {
    "Add": ("add", np.add), "Sub": ("sub", np.subtract), "Mul": ("mul", np.multiply), "Div": ("div", _divide),
}  # fmt: skip
_VARIADIC: Final[dict[str, tuple[str, Callable[[Any, Any], Any]]]] = {
    "Sum": ("add", np.add), "Mean": ("add", np.add), "Max": ("max", np.maximum), "Min": ("min", np.minimum),
}  # fmt: skip


def _align(node: Node, a: Operand, b: Operand) -> Operand:
    """The second operand with the axes that opset 6 gave it by the attributes ``broadcast`` and ``axis``."""
    if node.version >= 7:
        return b
    wide, narrow = shape_of(a, "A"), shape_of(b, "B")
    if not node.integer("broadcast", 0):
        if wide != narrow:
            raise ShapeError(f"shapes {wide} and {narrow} with broadcast=0", need="equal shapes")
        return b
    axis = node.integer("axis", len(wide) - len(narrow))
    trailing = len(wide) - len(narrow) - axis
    if not axis >= 0 <= trailing:
        raise ShapeError(f"axis={axis} for shapes {wide} and {narrow}", need="B inside A")
    if not trailing:
        return b
    if isinstance(b, Ref):
        raise UnsupportedError(f"axis={axis} with a computed B", need="a constant B", fix="opset 7 or newer")
    return as_constant(b, "B").reshape((*narrow, *(1,) * trailing))


def _lower_binary(node: Node, inputs: Operands, build: Builder) -> Operand:
    return combine(inputs[0], _align(node, inputs[0], inputs[1]), _BINARY[node.op][0], build)


def _lower_variadic(node: Node, inputs: Operands, build: Builder) -> Operand:
    op = _VARIADIC[node.op][0]
    # Computed values come first, so that no two constants meet.
    ordered = sorted(inputs, key=lambda item: not isinstance(item, Ref))
    total: Operand = ordered[0]
    for index, item in enumerate(ordered[1:], 2):
        last = index == len(ordered) and node.op != "Mean"
        total = combine(total, item, op, build, y=None if last else build.fresh("partial"))
    if node.op == "Mean" and isinstance(total, Ref) and len(inputs) > 1:
        total = build.map(total, PostOp("div", scalar(len(inputs))))
    return total


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    function = (_BINARY.get(node.op) or _VARIADIC[node.op])[1]
    total = as_constant(arrays[0], "an input")
    for given in arrays[1:]:
        item = as_constant(_align(node, total, given) if node.op in _BINARY else given, "an input")
        budget.take(broadcast(total.shape, item.shape), 4 * total.dtype.itemsize, "a constant")
        total = np.asarray(function(total, item))
    return total / np.asarray(len(arrays), total.dtype) if node.op == "Mean" else total


for _name in _BINARY:
    register(_name, lower=_lower_binary, fold=_fold, open_sizes=True)
for _name in _VARIADIC:
    register(_name, lower=_lower_variadic, fold=_fold, since=6, open_sizes=True)
