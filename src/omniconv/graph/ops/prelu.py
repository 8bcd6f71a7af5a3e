"""PRelu: ``x if x >= 0 else slope * x``, the slope a constant or a value that broadcasts to x.

In opset 6 a list of slopes is one for each channel.
"""

from __future__ import annotations

from omniconv.errors import ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref, as_weights, broadcast, shape_of
from omniconv.graph.operator import register
from omniconv.program.steps import PostOp


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X")
    slope = inputs[1]
    if node.version < 7 and x.rank > 2 and shape_of(slope, "the slope") == x.shape[1:2]:
        slope = as_weights(slope, "the slope").reshape(-1, *(1,) * (x.rank - 2))
    shape = shape_of(slope, "the slope")
    if broadcast(x.shape, shape) != x.shape:
        raise ShapeError(f"the slope of shape {shape} does not broadcast to {x.shape}", need="a slope no larger than X")
    return build.map(x, PostOp("prelu", slope.name if isinstance(slope, Ref) else as_weights(slope, "the slope")))


register("PRelu", lower=_lower, since=6, open_sizes=True)
