"""BatchNormalization with stored statistics: ``y = x * s + (bias - mean * s)``, ``s = scale / sqrt(var + epsilon)``.

The two constants are computed in float64 and become a per-channel multiplication and addition, which a later pass folds
into the convolution before it.
"""

from __future__ import annotations

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, as_weights
from omniconv.graph.operator import register
from omniconv.program.steps import PostOp


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=2)
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
        factor = scale / np.sqrt(variance + node.number("epsilon", 1e-5))
        shift = bias - mean * factor
    return build.map(x, PostOp("mul", factor.reshape(form)), PostOp("add", shift.reshape(form)))


register("BatchNormalization", lower=_lower)
