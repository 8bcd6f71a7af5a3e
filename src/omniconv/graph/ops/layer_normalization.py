"""LayerNormalization: the statistics over the last axes, from ``axis`` on; a constant scale and bias of their shape."""

from __future__ import annotations

import math

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, as_weights, broadcast, normalise_axis
from omniconv.graph.operator import register
from omniconv.graph.ops._standardise import standardise
from omniconv.program.steps import PostOp


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=1)
    if any(node.outputs[1:]):
        raise UnsupportedError("LayerNormalization with its statistics", need="one output")
    axis = normalise_axis(node.integer("axis", -1), x.rank)
    scale = [
        PostOp(op, as_weights(item, f"the input {name}"))
        for op, name, item in (("mul", "Scale", inputs[1]), ("add", "B", inputs[2]))
        if item is not None
    ]
    for op in scale:
        shape = getattr(op.operand, "shape", ())
        if broadcast(shape, x.shape[axis:]) != x.shape[axis:]:
            raise ModelError(f"a scale or bias has shape {shape}", need=f"{x.shape[axis:]}")
    flat = build.rearrange(x, (1, math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), y=build.fresh("flat"))
    done = standardise(flat, node.number("epsilon", 1e-5), build, y=build.fresh("standardised"))
    return build.map(build.rearrange(done, x.shape, y=build.fresh("shaped")), *scale)


register("LayerNormalization", lower=_lower, since=17)
