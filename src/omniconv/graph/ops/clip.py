"""Clip: bounds from attributes (before opset 11) or constant inputs. ReLU and ReLU6 get their own names.

An infinity is clipped like any number. Before opset 11 a bound that is absent is float32's largest number, whatever the
type of the input: the format says so. From then on it is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_scalar, as_weights, broadcast, shape_of
from omniconv.graph.operator import register
from omniconv.program.steps import PostOp
from omniconv.spec import Activation

_HUGE = float(np.finfo(np.float32).max)


def _bounds(node: Node, inputs: Operands) -> tuple[float, float]:
    if node.version < 11:
        return node.number("min", -_HUGE), node.number("max", _HUGE)
    low = -math.inf if inputs[1] is None else as_scalar(inputs[1], "the input min")
    high = math.inf if inputs[2] is None else as_scalar(inputs[2], "the input max")
    return low, high


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input")
    if node.version >= 11 and any(isinstance(bound, Ref) for bound in inputs[1:]):
        return _lower_computed(x, inputs, build)
    low, high = _bounds(node, inputs)
    if math.isnan(low) or math.isnan(high):
        raise UnsupportedError(f"Clip to [{low}, {high}]", need="bounds that are numbers")
    if (low, high) == (-math.inf, math.inf):
        return x
    return build.map(x, PostOp("act", activation=Activation.clamp(low, high)))


def _lower_computed(x: Ref, inputs: Operands, build: Builder) -> Operand:
    """The larger of x and one bound, then the smaller of that and the other."""
    posts = []
    for op, bound in (("max", inputs[1]), ("min", inputs[2])):
        if bound is None:
            continue
        shape = shape_of(bound, "a bound")
        if math.prod(shape) != 1 or broadcast(x.shape, shape) != x.shape:
            raise ModelError(f"a bound of Clip has shape {shape}", need="one number")
        posts.append(PostOp(op, bound.name if isinstance(bound, Ref) else as_weights(bound, "a bound")))
    return build.map(x, *posts)


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    budget.take(x.shape, x.dtype.itemsize, "a constant")
    low, high = _bounds(node, arrays)
    result = np.minimum(np.maximum(x, low), high) if x.dtype.kind == "f" else np.clip(x, _int(low, x), _int(high, x))
    return np.asarray(result.astype(x.dtype))


def _int(bound: float, x: AnyArray) -> int:
    limits = np.iinfo(x.dtype)
    return int(min(max(bound, limits.min), limits.max)) if not math.isnan(bound) else int(limits.min)


register("Clip", lower=_lower, fold=_fold, open_sizes=True)
