"""InstanceNormalization: ``(x - mean) / sqrt(var + epsilon) * scale + B``, the statistics over the spatial axes."""

from __future__ import annotations

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, as_weights
from omniconv.graph.operator import register
from omniconv.graph.ops._standardise import standardise
from omniconv.program.steps import PostOp


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input", rank=3)
    scale, bias = as_weights(inputs[1], "the input scale"), as_weights(inputs[2], "the input B")
    if scale.shape != (x.shape[1],) or bias.shape != (x.shape[1],):
        raise ModelError(f"scale has shape {scale.shape}, B {bias.shape}", need=f"({x.shape[1]},) each")
    form = (1, x.shape[1], *(1,) * (x.rank - 2))
    scaled = (PostOp("mul", scale.reshape(form)), PostOp("add", bias.reshape(form)))
    return standardise(x, node.number("epsilon", 1e-5), build, *scaled)


register("InstanceNormalization", lower=_lower, since=6)
