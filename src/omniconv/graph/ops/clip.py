"""Clip: bounds from attributes (before opset 11) or constant inputs. ReLU and ReLU6 get their own names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_scalar
from omniconv.graph.operator import register


def _bounds(node: Node, inputs: Operands, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The bounds; the largest number of the model's type is none."""
    huge = float(np.finfo(np.float32 if node.version < 11 or dtype.kind != "f" else dtype).max)
    if node.version < 11:
        low, high = node.number("min", -math.inf), node.number("max", math.inf)
    else:
        for bound in inputs[1:]:
            if isinstance(bound, Ref):
                raise UnsupportedError("a bound of Clip is computed while the model runs", need="constant bounds")
        low = -math.inf if inputs[1] is None else as_scalar(inputs[1], "the input min")
        high = math.inf if inputs[2] is None else as_scalar(inputs[2], "the input max")
    return (-math.inf if low <= -huge else low), (math.inf if high >= huge else high)


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input")
    low, high = _bounds(node, inputs, build.given.dtype)
    if math.isnan(low) or math.isnan(high):
        raise UnsupportedError(f"Clip to [{low}, {high}]", need="bounds that are numbers")
    if (low, high) == (-math.inf, math.inf):
        return x
    if (low, high) == (0.0, math.inf):
        return build.activate(x, "relu")
    if (low, high) == (0.0, 6.0):
        return build.activate(x, "relu6")
    return build.activate(x, "clip", lo=low, hi=high)


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    budget.take(x.shape, x.dtype.itemsize, "a constant")
    low, high = _bounds(node, arrays, x.dtype)
    result = np.minimum(np.maximum(x, low), high) if x.dtype.kind == "f" else np.clip(x, _int(low, x), _int(high, x))
    return np.asarray(result.astype(x.dtype))


def _int(bound: float, x: AnyArray) -> int:
    limits = np.iinfo(x.dtype)
    return int(min(max(bound, limits.min), limits.max)) if not math.isnan(bound) else int(limits.min)


register("Clip", lower=_lower, fold=_fold)
