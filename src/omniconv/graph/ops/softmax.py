"""Softmax and LogSoftmax along one axis; before opset 13 over the last axes together, from ``axis`` on."""

from __future__ import annotations

import math

from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, normalise_axis
from omniconv.graph.operator import register
from omniconv.program.steps import SoftmaxStep


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input", rank=1)
    log = node.op == "LogSoftmax"
    old = node.version < 13
    axis = normalise_axis(node.integer("axis", min(1, x.rank - 1) if old else -1), x.rank)
    if not old or math.prod(x.shape[axis + 1 :]) == 1:
        return build.add(SoftmaxStep(x.name, build.out(), axis, log), x.shape)
    flat = build.rearrange(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), y=build.fresh("flat"))
    soft = build.add(SoftmaxStep(flat.name, build.fresh("soft"), 1, log), flat.shape)
    return build.rearrange(soft, x.shape)


register("Softmax", lower=_lower, open_sizes=True)
register("LogSoftmax", lower=_lower, open_sizes=True)
