"""BatchNormalization with stored statistics: ``y = x * s + (bias - mean * s)``, ``s = scale / sqrt(var + epsilon)``.

The two constants are computed in float64 and become a per-channel multiplication and addition, which a later pass folds
into the convolution before it. Where the program's element does not hold them, the formula stays as it is written.
"""

from __future__ import annotations

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref, as_weights, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.ops._standardise import ROOT, scale_by
from omniconv.program.steps import PostOp


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=2)
    if node.integer("training_mode", 0) or any(node.outputs[1:]):
        raise UnsupportedError(
            "BatchNormalization in training mode",
            need="training_mode=0 and one output",
            fix="model.eval() before the export",
        )
    if node.version < 7 and not node.integer("is_test", 0):
        raise UnsupportedError("BatchNormalization of opset 6 in training mode", need="is_test=1")
    if not node.integer("spatial", 1):
        raise UnsupportedError("BatchNormalization with spatial=0", need="spatial=1, one statistic a channel")
    names = ("scale", "B", "mean", "var")
    if any(isinstance(item, Ref) for item in inputs[1:]):
        return _lower_computed(node, inputs, x, build)
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
        element = build.program.element
        lost = (np.abs(factor) < element.smallest_normal) & (np.abs(scale) >= element.smallest_normal)
        # Beside a larger shift, x * s could overflow where x - mean does not.
        held = (np.abs(factor) < element.largest_power) & (np.abs(shift) < element.largest_offset) & ~lost
        literal = (("sub", mean), ("mul", scale), ("div", deviation), ("add", bias))
        steps = (("mul", factor), ("add", shift)) if held.all() else literal
        return build.map(x, *(PostOp(op, value.reshape(form)) for op, value in steps))


def _lower_computed(node: Node, inputs: Operands, x: Ref, build: Builder) -> Operand:
    """The formula as it is written, where some of the parameters are computed while the model runs."""
    for name, item in zip(("scale", "B", "mean", "var"), inputs[1:], strict=True):
        shape = shape_of(item, f"the input {name}")
        if shape != (x.shape[1],):
            raise ModelError(f"the input {name} has shape {shape}", need=f"({x.shape[1]},), one value a channel")
    form = (1, x.shape[1], *(1,) * (x.rank - 2))
    above = PostOp("add", scalar(node.number("epsilon", 1e-5)))
    variance = build.value(inputs[4], "the input var")
    deviation = build.map(variance, above, ROOT, y=build.fresh("deviation"))
    steps = (("sub", inputs[3]), ("mul", inputs[1]), ("div", deviation), ("add", inputs[2]))
    return build.map(x, *(scale_by(op, item, "a parameter", form, build) for op, item in steps))


register("BatchNormalization", lower=_lower, open_sizes=True)
