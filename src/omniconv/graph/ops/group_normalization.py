"""GroupNormalization: the statistics over each group of channels and all positions.

Scale and bias have one value a channel (opset 21; the operator of opset 18 was withdrawn).
"""

from __future__ import annotations

import math

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._standardise import scale_by
from omniconv.program.steps import StandardiseStep


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=3)
    groups, channels = node.integer("num_groups"), x.shape[1]
    if groups < 1 or channels % groups:
        raise ModelError(f"num_groups={groups} for {channels} channels", need="groups that divide the channels")
    form = (1, channels, *(1,) * (x.rank - 2))
    scale = []
    for op, name, item in (("mul", "scale", inputs[1]), ("add", "bias", inputs[2])):
        shape = shape_of(item, f"the input {name}")
        if shape != (channels,):
            raise ModelError(f"the input {name} has shape {shape}", need=f"({channels},), one value a channel")
        scale.append(scale_by(op, item, f"the input {name}", form, build))
    size = math.prod(x.shape[1:]) // groups
    grouped = build.rearrange(x, (x.shape[0], groups, size), y=build.fresh("grouped"))
    step = StandardiseStep(grouped.name, build.fresh("standardised"), node.number("epsilon", 1e-5))
    done = build.add(step, grouped.shape)
    return build.map(build.rearrange(done, x.shape, y=build.fresh("shaped")), *scale)


register("GroupNormalization", lower=_lower, since=21, open_sizes=True)
