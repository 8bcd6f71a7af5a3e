"""BatchNormalization with stored statistics: ``y = x * s + (bias - mean * s)``, ``s = scale / sqrt(var + epsilon)``.

The two constants are computed in float64 and become a per-channel multiplication and addition, which a later pass folds
into the convolution before it. Where float32 does not hold them, the formula stays as it is written.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from omniconv.compiler.program import PostOp
from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, as_ref, as_weights
from omniconv.graph.operator import register

_SMALLEST: Final = 2.0**-126
_LARGEST: Final = 2.0**127
_LARGEST_SHIFT: Final = 2.0**100
"""Beside a larger shift, ``x * s`` could overflow where ``x - mean`` does not."""


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = as_ref(inputs[0], "the input X", rank=2)
    if node.integer("training_mode", 0) or any(node.outputs[1:]):
        raise UnsupportedError("BatchNormalization in training mode", need="training_mode=0 and one output")
    if node.version < 7 and not node.integer("is_test", 0):
        raise UnsupportedError("BatchNormalization of opset 6 in training mode", need="is_test=1")
    if not node.integer("spatial", 1):
        raise UnsupportedError("BatchNormalization with spatial=0", need="spatial=1, one statistic a channel")
    names = ("scale", "B", "mean", "var")
    parameters = [as_weights(inputs[i], f"the input {name}") for i, name in enumerate(names, 1)]
    for name, array in zip(names, parameters, strict=True):
        if array.shape != (x.shape[1],):
            raise ModelError(f"the input {name} has shape {array.shape}", need=f"({x.shape[1]},), one value a channel")
    scale, bias, mean, variance = (array.astype(np.float64) for array in parameters)
    form = (1, x.shape[1], *(1,) * (x.rank - 2))
    with np.errstate(all="ignore"):
        deviation = np.sqrt(variance + node.number("epsilon", 1e-5))
        factor = scale / deviation
        shift = bias - mean * factor
        lost = (np.abs(factor) < _SMALLEST) & (np.abs(scale) >= _SMALLEST)
        held = not lost.any() and (np.abs(factor) < _LARGEST).all() and (np.abs(shift) < _LARGEST_SHIFT).all()
        literal = (("sub", mean), ("mul", scale), ("div", deviation), ("add", bias))
        steps = (("mul", factor), ("add", shift)) if held else literal
        return build.map(x, *(PostOp(op, value.astype(np.float32).reshape(form)) for op, value in steps))


register("BatchNormalization", lower=_lower)
