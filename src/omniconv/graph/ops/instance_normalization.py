"""InstanceNormalization: ``(x - mean) / sqrt(var + epsilon) * scale + B``, the statistics over the spatial axes."""

from __future__ import annotations

from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.graph.ops._channelwise import scale_channels
from omniconv.graph.ops._standardise import standardise


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input", rank=3)
    scaled = (
        scale_channels("mul", inputs[1], "scale", x, build),
        scale_channels("add", inputs[2], "B", x, build),
    )
    return standardise(x, node.number("epsilon", 1e-5), build, *scaled)


register("InstanceNormalization", lower=_lower, since=6)
