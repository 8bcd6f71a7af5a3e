"""LayerNormalization and RMSNormalization: statistics over the last axes, from ``axis`` on; scales of their shape.

RMSNormalization is ``x / sqrt(mean(x^2) + epsilon) * scale``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref, broadcast, normalise_axis, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.ops._standardise import ROOT, scale_by
from omniconv.graph.ops.reduce import reduce_axes
from omniconv.program.steps import PostOp, StandardiseStep


def _scale_last(x: Ref, axis: int, items: Sequence[tuple[str, str, Operand]], build: Builder) -> list[PostOp]:
    """Scale and bias, which broadcast to the last axes of x, where they are given."""
    found = []
    for op, name, item in items:
        if item is None:
            continue
        shape = shape_of(item, f"the input {name}")
        if broadcast(shape, x.shape[axis:]) != x.shape[axis:]:
            raise ModelError(f"a scale or bias has shape {shape}", need=f"{x.shape[axis:]}")
        found.append(scale_by(op, item, f"the input {name}", shape, build))
    return found


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=1)
    if any(node.outputs[1:]):
        raise UnsupportedError("LayerNormalization with its statistics", need="one output")
    axis = normalise_axis(node.integer("axis", -1), x.rank)
    scale = _scale_last(x, axis, (("mul", "Scale", inputs[1]), ("add", "B", inputs[2])), build)
    flat = build.rearrange(x, (*x.shape[:axis], math.prod(x.shape[axis:])), y=build.fresh("flat"))
    step = StandardiseStep(flat.name, build.fresh("standardised"), node.number("epsilon", 1e-5))
    done = build.add(step, flat.shape)
    return build.map(build.rearrange(done, x.shape, y=build.fresh("shaped")), *scale)


def _lower_rms(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=1)
    axis = normalise_axis(node.integer("axis", -1), x.rank)
    scale = _scale_last(x, axis, (("mul", "scale", inputs[1]),), build)
    squares = build.map(x, PostOp("mul", x.name), y=build.fresh("squares"))
    mean = reduce_axes(squares, "mean", tuple(range(axis, x.rank)), build, build.fresh("mean"))
    size = build.map(mean, PostOp("add", scalar(node.number("epsilon", 1e-5))), ROOT, y=build.fresh("size"))
    return build.map(x, PostOp("div", size.name), *scale)


register("RMSNormalization", lower=_lower_rms, since=23, open_sizes=True)
register("LayerNormalization", lower=_lower, since=17, open_sizes=True)
