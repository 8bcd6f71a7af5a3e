"""LayerNormalization and RMSNormalization: the statistics over the last axes, from ``axis`` on.

Scale and bias broadcast to those axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref, as_weights, broadcast, normalise_axis, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.ops._standardise import standardise
from omniconv.program.steps import PostOp, ReduceStep
from omniconv.spec import Activation, Shape


def _read_scale(operands: Operands, names: Sequence[str], shape: Shape) -> list[PostOp]:
    """The multiplication by the first operand and the addition of the second, where they are given."""
    found = []
    for op, name, item in zip(("mul", "add"), names, operands, strict=False):
        if item is None:
            continue
        form = shape_of(item, f"the input {name}")
        if broadcast(form, shape) != shape:
            raise ModelError(f"the input {name} has shape {form}", need=f"{shape}")
        found.append(PostOp(op, item.name if isinstance(item, Ref) else as_weights(item, f"the input {name}")))
    return found


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=1)
    if any(node.outputs[1:]):
        raise UnsupportedError("LayerNormalization with its statistics", need="one output")
    axis = normalise_axis(node.integer("axis", -1), x.rank)
    scale = _read_scale(inputs[1:3], ("Scale", "B"), x.shape[axis:])
    flat = build.rearrange(x, (1, math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), y=build.fresh("flat"))
    done = standardise(flat, node.number("epsilon", 1e-5), build, y=build.fresh("standardised"))
    return build.map(build.rearrange(done, x.shape, y=build.fresh("shaped")), *scale)


def _lower_rms(node: Node, inputs: Operands, build: Builder) -> Operand:
    """``x / sqrt(mean(x^2) + epsilon) * scale``."""
    x = build.value(inputs[0], "the input X", rank=1)
    axis = normalise_axis(node.integer("axis", -1), x.rank)
    scale = _read_scale(inputs[1:2], ("scale",), x.shape[axis:])
    flat = build.rearrange(x, (1, math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), y=build.fresh("flat"))
    squares = build.map(flat, PostOp("mul", flat.name), y=build.fresh("squares"))
    mean = build.add(ReduceStep(squares.name, build.fresh("mean"), "mean"), (*flat.shape[:2], 1))
    root = PostOp("act", activation=Activation.of("sqrt"))
    above = PostOp("add", scalar(node.number("epsilon", 1e-5)))
    deviation = build.map(mean, above, root, y=build.fresh("deviation"))
    done = build.map(flat, PostOp("div", deviation.name), y=build.fresh("divided"))
    return build.map(build.rearrange(done, x.shape, y=build.fresh("shaped")), *scale)


register("LayerNormalization", lower=_lower, since=17)
register("RMSNormalization", lower=_lower_rms, since=23)
